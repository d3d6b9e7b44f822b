"""Methods side by side, paired by prompt; runs that are not comparable are refused."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from specbench.analysis import endpoint, notes
from specbench.analysis.acceptance import acceptance, drafting_rounds
from specbench.analysis.agreement import agreement, exact_match
from specbench.analysis.costs import round_costs
from specbench.analysis.latency import percentiles
from specbench.analysis.loops import loop_warnings
from specbench.analysis.place import place
from specbench.analysis.prediction import predictions
from specbench.audit.declared import in_words
from specbench.bench.manifest import differences
from specbench.errors import ExitCode, SpecbenchError
from specbench.records import CONTROL, Divergence, Failure, Generation, Manifest, Run
from specbench.results import Comparison, MethodSummary, Prediction

Part = TypeVar("Part", Divergence, Failure, Prediction)

MODEL_GENERATE = "cloud_baseline"
# How a method drafts is what is compared; order, repeats and telemetry do not change what is measured.
MAY_DIFFER = (
    "speculative", "memory", "workload.prompts", "workload.limit", "workload.repeats", "workload.warmup",
)  # fmt: skip
SEED = "workload.seed"
UNFAIR = "UNFAIR"
LABELS = {True: "lossless", False: "lossy", None: "not the cloud's text"}


@dataclass(frozen=True)
class Group:
    """What one method did in one run, under its name in the table."""

    name: str
    method: str
    run: Run
    records: list[Generation]


def compare(runs: Sequence[Run], allow_unfair: bool = False) -> Comparison:
    """One row a method, over all runs. Speed-ups are against the control of the same run, where it has one.

    Args:
        allow_unfair: show runs that are not comparable, with a label on every row.

    Raises:
        SpecbenchError: two runs differ in something on which figures depend, or hold no generations.
    """
    first = runs[0].manifest
    found = [(run.manifest, *part) for run in runs[1:] for part in _unfair(first, run.manifest)]
    if found and not allow_unfair:
        other, field, left, right = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise SpecbenchError(
            f"runs {first.run_id} and {other.run_id} are not comparable: {field} is {left} and {right}{more}",
            "run both methods in one run, so that they are interleaved under the same settings; or "
            "--allow-unfair shows them, labelled",
            ExitCode.UNFAIR,
        )
    if not any(not record.interrupted for run in runs for record in run.generations):
        raise SpecbenchError(
            f"run {first.run_id} holds no finished prompt",
            f"go on with --resume {first.run_id}",
            ExitCode.STORE,
        )
    groups = groups_of(runs)
    unfair = tuple(
        f"{field} is {left} in run {first.run_id} and {right} in run {other.run_id}"
        for other, field, left, right in found
    )
    names = {(group.run.manifest.run_id, group.method): group.name for group in groups}

    def named(part: Part, run: Run) -> Part:
        """The same, of a row of the table; a method that answered nothing has none."""
        run_id = run.manifest.run_id
        other = f"{part.method}@{run_id}" if len(runs) > 1 else part.method
        return replace(part, method=names.get((run_id, part.method), other))

    rows, categories = [], []
    for group in groups:
        row, parts = _summary(group, groups, bool(unfair))
        rows.append(row)
        categories += parts
    return Comparison(
        profile=first.profile_name,
        runs=tuple(run.manifest.run_id for run in runs),
        control=CONTROL if any(group.method == CONTROL for group in groups) else None,
        setting=("UNFAIR (settings of the first run): " if unfair else "")
        + " · ".join((place(runs), *settings(runs))),
        methods=tuple(rows),
        categories=endpoint.corrected(categories),
        divergences=tuple(named(part, run) for run in runs for part in run.manifest.divergences),
        failures=tuple(named(part, run) for run in runs for part in run.manifest.failures),
        notes=tuple(
            notes.comparison_notes(
                runs, [group.records for group in groups if group.method == CONTROL], rows, unfair
            )
        ),
        unfair=unfair,
        predictions=tuple(named(part, run) for run in runs for part in predictions(run)),
        warnings=tuple(loop_warnings((group.name, group.records) for group in groups)),
    )


def may_differ(key: str, left: Manifest, right: Manifest) -> bool:
    """Whether two runs may differ in a setting and still be compared."""
    # Without sampling, the seed decides the order alone.
    greedy = left.profile["decoding"]["temperature"] == right.profile["decoding"]["temperature"] == 0
    return key in MAY_DIFFER or key.partition(".")[0] in MAY_DIFFER or (greedy and key == SEED)


def _unfair(left: Manifest, right: Manifest) -> list[tuple[str, object, object]]:
    """Every field in which two runs differ and may not: its name and both values."""
    return [found for found in differences(left, right) if not may_differ(found[0], left, right)]


def groups_of(runs: Sequence[Run]) -> list[Group]:
    """In the order of the manifests; a method that an earlier run has too gets `@run`."""
    groups: dict[str, Group] = {}
    for run in runs:
        for method in run.manifest.methods:
            records = run.of(method)
            name = f"{method}@{run.manifest.run_id}" if method in groups else method
            if records:
                groups[name] = Group(name, method, run, records)
    return list(groups.values())


def _reference(group: Group, method: str, groups: Sequence[Group]) -> Group | None:
    """Whom a row is compared with: that method of its own run, else of the first run that has it."""
    found = [other for other in groups if other.method == method]
    own = [other for other in found if other.run is group.run]
    if group.method == method:
        return found[0]
    return (own or found or [None])[0]


def _summary(group: Group, groups: Sequence[Group], unfair: bool) -> tuple[MethodSummary, list]:
    """A row, and its categories before correction."""
    records, manifest = group.records, group.run.manifest
    lossless = manifest.lossless[group.method]
    control, generate = (_reference(group, method, groups) for method in (CONTROL, MODEL_GENERATE))
    rounds = drafting_rounds(records)
    drafted = sum(part.drafted or 0 for part in rounds)
    rule = next((record.verification for record in records if record.verification), None)
    gated = " behind a gate" if rule and manifest.profile["speculative"].get("gate") else ""
    bugs = notes.bugs(manifest)[group.method]
    truth = f"{notes.texts(bugs)} wrong" if bugs else _unproven(group, control) or LABELS[lossless]
    label = ", ".join(filter(None, (UNFAIR if unfair else "", (rule or "") + gated, truth)))
    versus = endpoint.speedup(control.records, records) if control else None
    interval = statement = None
    categories: list = []
    if control and versus and control is not group:
        fair = not unfair or control.run is group.run
        interval = versus.interval if fair else None
        where = "" if control.run is group.run else f" of run {control.run.manifest.run_id}"
        statement = endpoint.statement(group.name, label, f"the cloud alone{where}", versus, interval)
        if bugs:
            statement = f"no verdict on {group.name}: {notes.texts(bugs)} of it {notes.WRONG}"
        if not fair:
            statement = f"no verdict on {group.name} ({label}): its run differs from that of the control"
        categories = versus.by_category(group.name) if fair and not bugs else []
    tpot_ms = _known(statistics.median, [record.tpot_ms for record in records])
    ceiling = manifest.ceilings.get("edge" if lossless is None else "cloud")
    same = manifest.profile["decoding"]["temperature"] == 0 or manifest.repeats_control.get(group.method, False)
    summary = MethodSummary(
        method=group.name,
        label=label,
        lossless=lossless,
        verification=rule,
        generations=len(records),
        tokens=sum(len(record.tokens) for record in records),
        ttft_ms=statistics.median(record.ttft_ms for record in records),
        tpot_ms=tpot_ms,
        tokens_per_second=endpoint.tokens_per_second(records),
        acceptance_rate=sum(part.accepted or 0 for part in rounds) / drafted if drafted else None,
        acceptance_length=sum(len(part.tokens) for part in rounds) / len(rounds) if rounds else None,
        acceptance=acceptance(records),
        reference=control.name if control else None,
        paired_prompts=len(versus.logs) if versus else 0,
        speedup_vs_control=versus.ratio if versus else None,
        speedup_interval=interval,
        verdict=None if bugs else endpoint.verdict(interval),
        statement=statement,
        throughput_vs_control=versus.throughput if versus else None,
        speedup_vs_cloud_baseline=endpoint.speedup(generate.records, records).ratio if generate else None,
        exact_match=exact_match(control.records, records) if control and same else None,
        agreement=agreement(control.records, records, manifest.references, same)
        if control and not lossless
        else None,
        percentiles=percentiles(records),
        peak_rss_bytes=manifest.isolated_rss_bytes.get(group.method)
        or _known(max, [record.peak_rss_bytes for record in records]),
        peak_cuda_bytes=_known(max, [record.peak_cuda_bytes for record in records]),
        ceiling_tokens_per_second=ceiling.tokens_per_second if ceiling else None,
        share_of_ceiling=ceiling.share(tpot_ms) if ceiling else None,
        costs=round_costs(records),
        bugs=bugs,
    )
    return summary, categories


def _unproven(group: Group, control: Group | None) -> str | None:
    """What stands for `lossless` where a difference can be shown, and not be proven a tie."""
    cannot = group.run.manifest.profile["cloud"].get("backend") == "vllm"
    if not (cannot and control and control is not group and group.run.manifest.lossless[group.method]):
        return None
    both = endpoint.pairs(control.records, group.records)
    equal = sum(theirs.tokens == ours.tokens for theirs, ours in both)
    return f"{equal} of {len(both)} texts as the control's"


def _known(reduce: Callable[[list], float], values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return reduce(known) if known else None


def settings(runs: Sequence[Run]) -> tuple[str, ...]:
    """What was measured, for the title of every table; where, stands before it (`place`)."""
    profile = runs[0].manifest.profile
    edge, cloud, workload = profile["edge"], profile["cloud"], profile["workload"]
    prompts = len({name for run in runs for name in run.manifest.prompt_ids})
    return (
        f"edge {in_words(edge['dtype'], edge.get('quantization'))}, cloud {cloud['dtype']}",
        _engine(runs),
        _threads(runs),
        f"{prompts} prompts, at most {workload['max_new_tokens']} tokens each",
    )


def _threads(runs: Sequence[Run]) -> str:
    count = runs[0].manifest.threads
    return f"{count} thread{'' if count == 1 else 's'}"


def _engine(runs: Sequence[Run]) -> str:
    """Which engine the models really had; a model that cannot be compiled runs eagerly."""
    asked = runs[0].manifest.profile["engine"]
    found = {role: kind for run in runs for role, kind in run.manifest.engines.items()}
    if len(set(found.values())) > 1:
        return " and ".join(f"{kind} {role}" for role, kind in sorted(found.items())) + " engine"
    invariant = ", batch-invariant" if asked.get("batch_invariant") else ""
    return f"{next(iter(found.values()), asked['kind'])} engine{invariant}"
