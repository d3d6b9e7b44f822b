"""Methods side by side, paired by prompt; runs that are not comparable are refused."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from specbench.bench.manifest import differences
from specbench.bench.runner import CONTROL
from specbench.errors import ExitCode, SpecbenchError
from specbench.records import Comparison, Generation, MethodSummary, Run

MODEL_GENERATE = "cloud_baseline"
# How a method drafts is what is compared; order, repeats and telemetry do not change what is measured.
MAY_DIFFER = (
    "speculative", "memory", "workload.prompts", "workload.limit", "workload.repeats", "workload.warmup",
    "workload.seed",
)  # fmt: skip


def compare(runs: Sequence[Run]) -> Comparison:
    """One row a method, over all runs.

    Raises:
        SpecbenchError: two runs differ in something on which figures depend, or hold no generations.
    """
    first = runs[0].manifest
    for run in runs[1:]:
        for field, left, right in differences(first, run.manifest, MAY_DIFFER):
            raise SpecbenchError(
                f"runs {first.run_id} and {run.manifest.run_id} are not comparable: {field} is {left} "
                f"and {right}",
                "run both methods in one run, so that they are interleaved under the same settings",
                ExitCode.UNFAIR,
            )
    if not any(run.generations for run in runs):
        raise SpecbenchError(
            f"run {first.run_id} holds no finished prompt",
            f"go on with --resume {first.run_id}",
            ExitCode.STORE,
        )
    groups = _by_method(runs)
    control = groups.get(CONTROL)
    generate = groups.get(MODEL_GENERATE)
    greedy = first.profile["decoding"]["temperature"] == 0
    lossless = {name: value for run in runs for name, value in run.manifest.lossless.items()}
    return Comparison(
        profile=first.profile_name,
        runs=tuple(run.manifest.run_id for run in runs),
        control=CONTROL if control else None,
        setting=_setting(runs),
        methods=tuple(
            _summary(name, lossless[name.partition("@")[0]], records, control, generate, greedy)
            for name, records in groups.items()
        ),
        divergences=tuple(part for run in runs for part in run.manifest.divergences),
        failures=tuple(part for run in runs for part in run.manifest.failures),
        notes=tuple(_notes(runs)),
    )


def speedup(reference: Sequence[Generation], records: Sequence[Generation]) -> float | None:
    """Ratio of geometric means of TPOT over paired requests: above 1, `records` are faster."""
    logs = [
        math.log(theirs.tpot_ms / ours.tpot_ms)
        for theirs, ours in _pairs(reference, records)
        if theirs.tpot_ms and ours.tpot_ms
    ]
    return math.exp(statistics.fmean(logs)) if logs else None


def exact_match(reference: Sequence[Generation], records: Sequence[Generation]) -> float | None:
    """Share of paired generations that are equal token for token."""
    pairs = _pairs(reference, records)
    return sum(theirs.tokens == ours.tokens for theirs, ours in pairs) / len(pairs) if pairs else None


def _pairs(
    reference: Sequence[Generation], records: Sequence[Generation]
) -> list[tuple[Generation, Generation]]:
    """The same prompt, turn and repeat with equal prompt ids: later turns pair only while replies agree."""
    known = {record.key: record for record in reference}
    return [
        (known[record.key], record)
        for record in records
        if record.key in known and known[record.key].prompt_sha256 == record.prompt_sha256
    ]


def _by_method(runs: Sequence[Run]) -> dict[str, list[Generation]]:
    """Generations by method, in the order of the manifests; a method of several runs gets `@run`."""
    names = [name for run in runs for name in run.manifest.methods]
    groups: dict[str, list[Generation]] = {}
    for run in runs:
        for name in run.manifest.methods:
            records = [record for record in run.generations if record.method == name]
            if records:
                repeated = names.count(name) > 1 and name in groups
                groups[f"{name}@{run.manifest.run_id}" if repeated else name] = records
    return groups


def _summary(
    name: str,
    lossless: bool | None,
    records: list[Generation],
    control: list[Generation] | None,
    generate: list[Generation] | None,
    greedy: bool,
) -> MethodSummary:
    tokens = sum(len(record.tokens) for record in records)
    seconds = sum(record.total_ms for record in records) / 1000
    rounds = [part for record in records for part in record.rounds if part.drafted]
    drafted = sum(part.drafted or 0 for part in rounds)
    return MethodSummary(
        method=name,
        lossless=lossless,
        generations=len(records),
        tokens=tokens,
        ttft_ms=statistics.median(record.ttft_ms for record in records),
        tpot_ms=_known(statistics.median, [record.tpot_ms for record in records]),
        tokens_per_second=tokens / seconds if seconds else None,
        acceptance_rate=sum(part.accepted or 0 for part in rounds) / drafted if drafted else None,
        acceptance_length=sum(len(part.tokens) for part in rounds) / len(rounds) if rounds else None,
        speedup_vs_control=speedup(control, records) if control else None,
        speedup_vs_cloud_baseline=speedup(generate, records) if generate else None,
        exact_match=exact_match(control, records) if control and greedy else None,
        peak_rss_bytes=_known(max, [record.peak_rss_bytes for record in records]),
        peak_cuda_bytes=_known(max, [record.peak_cuda_bytes for record in records]),
    )


def _known(reduce: Callable[[list], float], values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return reduce(known) if known else None


def _setting(runs: Sequence[Run]) -> str:
    """What was measured, for the title of every table."""
    profile = runs[0].manifest.profile
    edge, cloud, workload = profile["edge"], profile["cloud"], profile["workload"]
    prompts = len({name for run in runs for name in run.manifest.prompt_ids})
    return (
        f"co-located: edge and cloud on one machine, no link · edge {edge['dtype']}, cloud {cloud['dtype']} · "
        f"{_engine(runs)} · {runs[0].manifest.threads} threads · {prompts} prompts, "
        f"at most {workload['max_new_tokens']} tokens each"
    )


def _engine(runs: Sequence[Run]) -> str:
    """Which engine the models really had; a model that cannot be compiled runs eagerly."""
    asked = runs[0].manifest.profile["engine"]
    found = {role: kind for run in runs for role, kind in run.manifest.engines.items()}
    if len(set(found.values())) > 1:
        return " and ".join(f"{kind} {role}" for role, kind in sorted(found.items())) + " engine"
    invariant = ", batch-invariant" if asked.get("batch_invariant") else ""
    return f"{next(iter(found.values()), asked['kind'])} engine{invariant}"


def _notes(runs: Sequence[Run]) -> list[str]:
    notes = []
    for run in runs:
        manifest = run.manifest
        parity = manifest.profile["precision"]["parity"]
        if parity == "off":
            notes.append("precision was not checked (precision.parity: off)")
        if parity == "per_role" and manifest.profile["edge"]["dtype"] != manifest.profile["cloud"]["dtype"]:
            notes.append("edge and cloud differ in precision on purpose (precision.parity: per_role)")
        if manifest.status != "finished":
            notes.append(f"run {manifest.run_id} is {manifest.status}; --resume {manifest.run_id} goes on")
    return list(dict.fromkeys(notes))
