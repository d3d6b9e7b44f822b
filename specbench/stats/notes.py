"""Notes that a reader needs beside the figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from specbench.benchmark.differences import SOURCE, differences
from specbench.precision import side_of
from specbench.results.derived import MethodSummary
from specbench.results.records import CONTROL, Manifest, Run
from specbench.stats.ceiling_shares import drift_notes
from specbench.stats.closed_form import FORMS
from specbench.stats.energy_use import energy_notes
from specbench.stats.grammars import grammar_notes
from specbench.stats.noise import noise_notes
from specbench.stats.prefills import server_notes
from specbench.stats.row_names import base
from specbench.stats.text_similarity import NO_SACREBLEU, has_sacrebleu
from specbench.stats.verdict import FEWEST_RESTARTS, UNDECIDED

ANOTHER_TEXT = "its text is not the cloud's, and speeds are compared for the same text only"
BY_CHANCE = "its acceptance is synthetic, so its times are measured and its text means nothing"
WRONG = "differed from the control's, and no tie explains it"


def comparison_notes(runs: Sequence[Run], rows: Sequence[MethodSummary], unfair: Sequence[str]) -> list[str]:
    """Notes that may change a reader's conclusion, the most important first, each once."""
    notes = [f"{difference}: these rows are not a fair comparison" for difference in unfair]
    notes += [row.ceiling_fault for row in rows if row.ceiling_fault]
    notes += grammar_notes(rows)
    repeats = max(run.manifest.profile["workload"].get("repeats", 1) for run in runs)
    notes += _of_runs({run.manifest.run_id: _run_notes(run, repeats) for run in runs})
    if len(runs) > 1:
        notes.append(
            "the runs were measured at different times: intervals across runs do not include what changed "
            "between them"
        )
    notes += [
        f"{key} is {left} in run {runs[0].manifest.run_id} and {right} in run {run.manifest.run_id}"
        for run in runs[1:]
        for key, left, right in differences(runs[0].manifest, run.manifest)
        if key.startswith(SOURCE)
    ]
    few = {row.restarts for row in rows if 0 < row.restarts < FEWEST_RESTARTS}
    if few:
        notes.append(
            f"{min(few)} restart{'s are' if min(few) > 1 else ' is'} too few for an interval: it covers "
            f"prompts and not what differs between processes, which takes {FEWEST_RESTARTS} (--restarts)"
        )
    undecided = [row.method for row in rows if row.verdict == UNDECIDED]
    if undecided:
        notes.append(
            f"for {', '.join(undecided)}, more prompts (--limit) or --repeats {repeats + 2} narrow the interval"
        )
    return list(dict.fromkeys(notes))


def background_notes(runs: Sequence[Run], rows: Sequence[MethodSummary]) -> list[str]:
    """Notes that explain figures and change no conclusion, each once."""
    notes = _of_runs({run.manifest.run_id: _background_of(run) for run in runs})
    formless = [row.method for row in rows if row.acceptance and base(row.method) not in FORMS]
    if formless:
        notes.append(
            f"no prediction for {', '.join(formless)}: the closed form needs drafts of a known length and one "
            "draft step per token"
        )
    for row in rows:
        if row.acceptance and row.acceptance.seems_a_tree:
            longest = len(row.acceptance.histogram) - 1
            notes.append(
                f"no round of {row.method} accepted more than {longest} of the tokens that it drafted, so they "
                f"seem to form a tree: acceptance by position is not shown beyond {longest}; a method that "
                "drafts a tree sets Round.depth"
            )
    if len({row.verification for row in rows if row.verification}) > 1:
        notes.append("acceptance rates of different verification rules are not comparable")
    notes += energy_notes(runs)
    if any(row.agreement for row in rows) and not has_sacrebleu():
        notes.append(NO_SACREBLEU)
    return list(dict.fromkeys(notes))


def _of_runs(found: Mapping[str, Sequence[str]]) -> list[str]:
    """Notes of several runs, each once; one that is not true of all of them names its run."""
    told = []
    for run_id, notes in found.items():
        for note in notes:
            shared = run_id in note or all(note in others for others in found.values())
            told.append(note if shared else f"run {run_id}: {note}")
    return told


def _run_notes(run: Run, repeats: int) -> list[str]:
    """Notes on one run, the most important first."""
    notes = [*run.faults, *wrong_notes(run.manifest), *_chance_notes(run.manifest)]
    notes += _refusal_notes(run.manifest)
    notes += _manifest_notes(run.manifest)
    if run.manifest.profile["cloud"].get("backend") == "openai":
        notes += server_notes(run)
    if interrupted := [record for record in run.generations if record.interrupted]:
        notes.append(
            f"{len(interrupted)} of {len(run.generations)} answers of run {run.manifest.run_id} were "
            "interrupted by a lost cloud, and are left out"
        )
    return [*notes, *noise_notes(run.of(CONTROL), repeats)]


def chances(manifest: Manifest) -> str | None:
    """By which chances drafted tokens were accepted, in words; `None` where the target judged them."""
    return synthetic_in_words(manifest.profile["speculative"].get("synthetic_acceptance"))


def synthetic_in_words(found: Sequence[float] | None) -> str | None:
    """A profile's `speculative.synthetic_acceptance`, as titles name it; `None` without it."""
    return f"synthetic acceptance {'/'.join(f'{chance:g}' for chance in found)}" if found else None


def _chance_notes(manifest: Manifest) -> list[str]:
    if not (told := chances(manifest)):
        return []
    return [
        f"run {manifest.run_id} has {told}: drafted tokens were accepted by chance, whatever they were. Times "
        "are measured; texts and acceptance say nothing of the models"
    ]


def _refusal_notes(manifest: Manifest) -> list[str]:
    return [
        f"turn {part.turn + 1} of prompt {part.prompt_id} is left out for every method: {part.reason}"
        for part in manifest.refusals
    ]


def bugs(manifest: Manifest) -> Counter[str]:
    """By method, the number of texts that differ from the control's without being ties."""
    return Counter(found.method for found in manifest.divergences if found.verdict == "bug")


def texts(count: int) -> str:
    """A number of texts in words, such as `2 texts`."""
    return f"{count} text{'' if count == 1 else 's'}"


def wrong_notes(manifest: Manifest) -> list[str]:
    """Warnings without which a run's figures must not be read, the most important first."""
    run_id, counts = manifest.run_id, bugs(manifest)
    found = []
    if wrong := counts.pop(CONTROL, 0):
        held = manifest.recomputation.texts if manifest.recomputation else wrong
        found.append(
            f"{wrong} of {texts(held)} of the control in run {run_id} changed when computed again without a "
            "cache: the engine or the model is wrong, and no figure of this run can be trusted"
        )
    found += [f"{texts(count)} of {method} in run {run_id} {WRONG}" for method, count in counts.items()]
    found += [f"run {run_id}: {text}; --resume {run_id} tries again" for text in manifest.unchecked]
    found += [
        f"{method} in run {run_id} is not verified: {'; '.join(reasons)}"
        for method, reasons in manifest.unverified.items()
    ]
    return found + [f"precision of run {run_id}: {text}" for text in manifest.precision_problems]


def _manifest_notes(manifest: Manifest) -> list[str]:
    notes = []
    parity = manifest.profile["precision"]["parity"]
    if parity == "off":
        notes.append("precision was not checked (precision.parity: off)")
    if parity == "per_role" and side_of(manifest, "edge") != side_of(manifest, "cloud"):
        notes.append("edge and cloud differ in precision on purpose (precision.parity: per_role)")
    if device := manifest.edge_device:
        notes.append("edge device: " + "; ".join(f"{key} {applied}" for key, applied in device.items()))
    if manifest.recomputation and manifest.recomputation.reason:
        notes.append(
            f"the control of run {manifest.run_id} could not be checked by computing it again without "
            "a cache: "
            f"{manifest.recomputation.reason}"
        )
    if manifest.audits and not manifest.switches:
        notes.append(f"precision of run {manifest.run_id} is unknown: it was stored without a full audit")
    if manifest.status != "finished" and not (manifest.precision_problems and not manifest.failures):
        how = f"complete it with 'specbench run --resume {manifest.run_id}'"
        if manifest.is_tuning:
            how = "nothing was chosen by it, and only a new tuning does so"
        notes.append(f"run {manifest.run_id} is {manifest.status}; {how}")
    return notes


def _background_of(run: Run) -> list[str]:
    manifest, notes = run.manifest, [*run.manifest.remarks]
    settings, predicts = manifest.profile["speculative"], not FORMS.keys().isdisjoint(manifest.methods)
    if predicts and settings.get("gate"):
        notes.append(
            f"no prediction for run {manifest.run_id}: it used a gate, and the closed form verifies all "
            "drafts; 'specbench replay --over gate.MEASURE=...' replays a gate on a trace"
        )
    elif predicts and settings.get("confidence_stop"):
        notes.append(
            f"no prediction for run {manifest.run_id}: confidence_stop changed the draft length; "
            "'specbench replay --over confidence_stop=...' replays it on a trace"
        )
    if own := [name for name in manifest.methods if name in manifest.isolated_rss_bytes]:
        notes.append(f"peak RSS of {', '.join(own)} was measured in its own process (--isolate)")
    if tuning := manifest.tuning:
        notes.append(
            f"draft length {tuning.chosen} was chosen for {tuning.method} on {len(tuning.prompt_ids)} prompts "
            f"of {tuning.on} (run {tuning.run_id}), which are not measured here"
        )
    return [*notes, *drift_notes(run)]
