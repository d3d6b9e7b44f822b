"""What a reader must know beside the figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from specbench.analysis.agreement import NO_SACREBLEU, has_sacrebleu
from specbench.analysis.endpoint import UNDECIDED
from specbench.analysis.noise import noise_notes
from specbench.analysis.planning import FORMS
from specbench.analysis.prefills import vllm_notes
from specbench.records import Generation, Manifest, Run
from specbench.results import MethodSummary

WRONG = "should be the control's, and no tie explains the difference"


def comparison_notes(
    runs: Sequence[Run],
    controls: Sequence[Sequence[Generation]],
    rows: Sequence[MethodSummary],
    unfair: Sequence[str],
) -> list[str]:
    """Lines below the table, the gravest first, each once."""
    notes = [f"{difference}: these rows are not a fair comparison" for difference in unfair]
    for run in runs:
        notes += wrong_notes(run.manifest)
        notes += _refusal_notes(run.manifest)
        notes += run.manifest.remarks
        notes += _manifest_notes(run.manifest)
        if run.manifest.profile["cloud"].get("backend") == "vllm":
            notes += vllm_notes(run)
        if interrupted := [record for record in run.generations if record.interrupted]:
            notes.append(
                f"{len(interrupted)} of {len(run.generations)} answers of run {run.manifest.run_id} were "
                "interrupted by a lost cloud, and are left out"
            )
    repeats = max(run.manifest.profile["workload"].get("repeats", 1) for run in runs)
    for control in controls:
        notes += noise_notes(control, repeats)
    if len(runs) > 1:
        notes.append(
            "runs were measured one after the other: what changed between them is not in the intervals of rows "
            "that are compared across runs"
        )
    undecided = [row.method for row in rows if row.verdict == UNDECIDED]
    if undecided:
        notes.append(
            f"for {', '.join(undecided)}, more prompts (--limit) or --repeats {repeats + 2} narrow the interval"
        )
    formless = [row.method for row in rows if row.acceptance and row.method.partition("@")[0] not in FORMS]
    if formless:
        notes.append(
            f"nothing is predicted of {', '.join(formless)}: a closed form needs drafts of a known length, a "
            "step of the draft model for each token"
        )
    if len({row.verification for row in rows if row.verification}) > 1:
        notes.append("acceptance under one verification rule says nothing about another: never compare the two")
    if any(row.agreement for row in rows) and not has_sacrebleu():
        notes.append(NO_SACREBLEU)
    return list(dict.fromkeys(notes))


def _refusal_notes(manifest: Manifest) -> list[str]:
    return [
        f"turn {part.turn + 1} of prompt {part.prompt_id} is left out for every method: {part.reason}"
        for part in manifest.refusals
    ]


def bugs(manifest: Manifest) -> Counter[str]:
    """By method, how many of its texts differ from the control's by no tie."""
    return Counter(found.method for found in manifest.divergences if found.verdict == "bug")


def texts(count: int) -> str:
    """So many texts, in words."""
    return f"{count} text{'' if count == 1 else 's'}"


def wrong_notes(manifest: Manifest) -> list[str]:
    """What no figure of a run may be read without, the gravest first."""
    run_id = manifest.run_id
    found = [f"{texts(count)} of {method} in run {run_id} {WRONG}" for method, count in bugs(manifest).items()]
    return found + [f"precision of run {run_id}: {text}" for text in manifest.precision_problems]


def _manifest_notes(manifest: Manifest) -> list[str]:
    notes = []
    parity = manifest.profile["precision"]["parity"]
    if parity == "off":
        notes.append("precision was not checked (precision.parity: off)")
    edge, cloud = manifest.profile["edge"], manifest.profile["cloud"]
    if parity == "per_role" and (edge["dtype"] != cloud["dtype"] or edge.get("quantization")):
        notes.append("edge and cloud differ in precision on purpose (precision.parity: per_role)")
    if device := manifest.edge_device:
        notes.append("edge device: " + "; ".join(f"{key} {applied}" for key, applied in device.items()))
    if manifest.profile["speculative"].get("gate") and not FORMS.keys().isdisjoint(manifest.methods):
        notes.append(
            f"nothing is predicted of run {manifest.run_id}: its gate chose which drafts were verified, and "
            "the closed form verifies all; 'specbench replay --over gate.MEASURE=...' times a gate on a trace"
        )
    if manifest.audits and not manifest.switches:
        notes.append(f"precision of run {manifest.run_id} is unknown: it was stored without a full audit")
    if manifest.status != "finished" and not (manifest.precision_problems and not manifest.failures):
        notes.append(f"run {manifest.run_id} is {manifest.status}; --resume {manifest.run_id} goes on")
    if own := [name for name in manifest.methods if name in manifest.isolated_rss_bytes]:
        notes.append(f"peak RSS of {', '.join(own)} is of a process of its own (--isolate)")
    if tuning := manifest.tuning:
        notes.append(
            f"draft length {tuning.chosen} was chosen for {tuning.method} on {len(tuning.prompt_ids)} prompts "
            f"of {tuning.on} (run {tuning.run_id}), none of which is asked here"
        )
    return notes
