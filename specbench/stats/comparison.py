"""Methods side by side, paired by prompt; runs that are not comparable are refused."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from specbench.benchmark.differences import SOURCE, differences
from specbench.errors import ExitCode, SpecbenchError, StoreError
from specbench.results.derived import Comparison, MethodSummary, Prediction
from specbench.results.parts import Stretch
from specbench.results.records import CONTROL, SYNTHETIC, Divergence, Failure, Manifest, Run
from specbench.stats import notes, verdict
from specbench.stats.acceptance import acceptance, drafting_rounds
from specbench.stats.ceiling_shares import ceiling_fault, share_of_ceiling, tokens_range
from specbench.stats.closed_form import predictions
from specbench.stats.energy_use import energy_use
from specbench.stats.grammars import grammar_figures
from specbench.stats.groups import Group, groups_of, versus
from specbench.stats.latency import percentiles
from specbench.stats.money import money, prices_of
from specbench.stats.repetition import mostly_loops
from specbench.stats.round_costs import round_costs
from specbench.stats.row_names import told_runs
from specbench.stats.stretches import by_category, by_context, by_position
from specbench.stats.task_scores import quality, text_warnings
from specbench.stats.text_similarity import agreement, exact_match
from specbench.stats.title import settings
from specbench.stats.topology import place

Part = TypeVar("Part", Divergence, Failure, Prediction)

MODEL_GENERATE = "cloud_baseline"
# How a method drafts is what is compared; order, repeats and telemetry do not change what is measured.
MAY_DIFFER = (
    *("speculative", "methods", "memory"),
    *("workload.prompts", "workload.limit", "workload.repeats", "workload.restarts", "workload.warmup"),
)
SEED = "workload.seed"
UNFAIR = "UNFAIR"
UNVERIFIED = "not verified"
NumberT = TypeVar("NumberT", int, float)
LABELS = {True: "lossless", False: "lossy", None: "not the cloud's text"}
NO_TEXT = "the text means nothing"


def compare(runs: Sequence[Run], allow_unfair: bool = False) -> Comparison:
    """One row a method, over all runs. Speed-ups are against the control of the same run, where it has one.

    Args:
        allow_unfair: show runs that are not comparable, with a label on every row.

    Raises:
        SpecbenchError: two runs differ in something on which figures depend, or hold no generations.
    """
    first = runs[0].manifest
    both = [(run.manifest, part) for run in runs[1:] for part in differences(first, run.manifest)]
    found = [(other, *part) for other, part in both if not may_differ(part[0], first, other)]
    if found and not allow_unfair:
        other, field, left, right = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        same = "or run both with the same prompts (--limit, --prompts), " if field == "prompts" else ""
        raise SpecbenchError(
            f"runs {first.run_id} and {other.run_id} are not comparable: {field} is {left} and {right}{more}",
            f"run both methods in one run, interleaved under the same settings, {same}or show them labelled "
            "with 'specbench compare --allow-unfair'",
            ExitCode.UNFAIR,
        )
    if not any(not record.interrupted for run in runs for record in run.generations):
        raise StoreError(
            f"run {first.run_id} holds no finished prompt",
            f"resume it with 'specbench run --resume {first.run_id}'",
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
    background = tuple(notes.background_notes(runs, rows))
    return Comparison(
        profile=first.profile_name,
        runs=tuple(run.manifest.run_id for run in runs),
        told_runs=tuple(told_runs(runs)),
        control=next((group.name for group in groups if group.method == CONTROL), None),
        setting=("UNFAIR (settings of the first run): " if unfair else "")
        + " · ".join((place(runs), *settings(runs))),
        methods=tuple(rows),
        categories=verdict.corrected(categories),
        divergences=tuple(named(part, run) for run in runs for part in run.manifest.divergences),
        failures=tuple(named(part, run) for run in runs for part in run.manifest.failures),
        notes=(*notes.comparison_notes(runs, rows, unfair), *background),
        background=background,
        unfair=unfair,
        predictions=tuple(named(part, run) for run in runs if not run.faults for part in predictions(run)),
        faults=tuple(fault for run in runs for fault in run.faults),
        warnings=tuple(text_warnings([(group.name, group.records) for group in groups])),
        stretches=_stretches(groups),
        category_answers=tuple(by_category([(one.name, one.records, one.run.manifest) for one in groups])),
        mostly_repeats=any(mostly_loops(group.records) for group in groups if group.method == CONTROL),
    )


def _stretches(groups: Sequence[Group]) -> tuple[Stretch, ...]:
    """Figures by length of the prompt and by position in the answer."""
    beside = [_reference(group, CONTROL, groups) for group in groups]
    rows = [
        (group.name, group.records, control.records if control else ())
        for group, control in zip(groups, beside, strict=True)
    ]
    return (*by_context(rows), *by_position(rows))


def may_differ(key: str, left: Manifest, right: Manifest) -> bool:
    """Whether two runs may differ in a setting and still be compared."""
    # Without sampling, the seed decides the order alone.
    if key.startswith(SOURCE):
        return True  # rows say so
    if key == "speculative.synthetic_acceptance":
        return all(map(notes.chances, (left, right)))  # then none of the texts is real
    greedy = left.profile["decoding"]["temperature"] == right.profile["decoding"]["temperature"] == 0
    return key in MAY_DIFFER or key.partition(".")[0] in MAY_DIFFER or (greedy and key == SEED)


def _reference(group: Group, method: str, groups: Sequence[Group]) -> Group | None:
    """The group that a row is compared with: that method of its own run, else of the first run that has it."""
    found = [other for other in groups if other.method == method]
    own = [other for other in found if other.run is group.run]
    if group.method == method:
        return found[0]
    return next(iter(own or found), None)


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
    truth, real = (NO_TEXT, None) if rule == SYNTHETIC else (truth, control)
    reasons = manifest.unverified.get(group.method, ())
    label = ", ".join(
        filter(
            None,
            (
                UNFAIR if unfair else "",
                UNVERIFIED if reasons else "",
                (rule or "") + gated,
                truth,
                _own_passes(group),
                _own_source(group, groups),
            ),
        )
    )
    found = versus(group, control) if control else None
    interval = statement = reason = None
    categories: list = []
    if control and found and control is not group:
        where = "" if control.run is group.run else f" of run {control.run.manifest.run_id}"
        reason = notes.BY_CHANCE if rule == SYNTHETIC else _no_verdict(group, control, bugs, unfair)
        fair = not unfair or control.run is group.run
        interval = found.interval if fair and not (group.run.faults or control.run.faults) else None
        if reason:
            statement = f"no verdict on {group.name}: {reason}"
        else:
            reference = f"the cloud alone{where}"
            statement = verdict.statement(group.name, label, reference, found, interval, bool(lossless))
            categories = found.by_category(group.name)
    ceiling = manifest.ceilings.get("edge" if lossless is None else "cloud")
    share = share_of_ceiling(ceiling, records) if ceiling else None
    same = manifest.profile["decoding"]["temperature"] == 0 or manifest.repeats_control.get(group.method, False)
    summary = MethodSummary(
        method=group.name,
        label=label,
        lossless=lossless,
        verification=rule,
        generations=len(records),
        tokens=sum(len(record.tokens) for record in records),
        ttft_ms=statistics.median(record.ttft_ms for record in records),
        tpot_ms=_known(statistics.median, [record.tpot_ms for record in records]),
        tokens_per_second=verdict.tokens_per_second(records),
        acceptance_rate=sum(part.accepted or 0 for part in rounds) / drafted if drafted else None,
        acceptance_length=sum(len(part.tokens) for part in rounds) / len(rounds) if rounds else None,
        acceptance=acceptance(records),
        reference=control.name if control else None,
        paired_prompts=len(found.logs) if found else 0,
        speedup_vs_control=found.ratio if found else None,
        speedup_interval=interval,
        verdict=None if reason else verdict.verdict(interval),
        statement=statement,
        throughput_vs_control=found.throughput if found else None,
        speedup_vs_cloud_baseline=verdict.speedup(generate.records, records).ratio if generate else None,
        exact_match=exact_match(real.records, records) if real and same else None,
        agreement=agreement(real.records, records, manifest.references, same)
        if real and not lossless
        else None,
        percentiles=percentiles(records),
        peak_rss_bytes=manifest.isolated_rss_bytes.get(group.method)
        or _known(max, [record.peak_rss_bytes for record in records]),
        peak_cuda_bytes=_known(max, [record.peak_cuda_bytes for record in records]),
        ceiling_tokens_per_second=ceiling.tokens_per_second if ceiling else None,
        ceiling_range=tokens_range(ceiling) if ceiling else None,
        share_of_ceiling=share,
        ceiling_fault=ceiling_fault(group.name, ceiling, share, records) if ceiling else None,
        costs=round_costs(records),
        quality=quality(records, control.records if control else (), manifest.tasks),
        energy=energy_use(records, manifest.energy_counters),
        money=money(records, prices_of(manifest)),
        bugs=bugs,
        unverified=tuple(reasons),
        grammar=grammar_figures(records),
        interval_levels=found.levels if found and interval else (),
        restarts=found.complete_restarts if found else 0,
    )
    return summary, categories


def _no_verdict(group: Group, control: Group, bugs: int, unfair: bool) -> str | None:
    """The most important reason why a measured row has no verdict; `None` without one."""
    if faults := (*group.run.faults, *control.run.faults):
        return faults[0]
    if bugs:
        return f"{notes.texts(bugs)} of it {notes.WRONG}"
    if notes.bugs(control.run.manifest)[CONTROL]:
        return "the control is not what the model says without a cache"
    if unfair and control.run is not group.run:
        return f"{UNFAIR}, its run differs from that of the control"
    if group.run.manifest.lossless[group.method] is None:
        return notes.ANOTHER_TEXT
    return None


def _own_passes(group: Group) -> str | None:
    """The label of a method that calls the model itself instead of a compiled engine."""
    manifest = group.run.manifest
    is_compiled = "compiled" in manifest.engines.values()
    return "eager passes" if is_compiled and group.method in manifest.own_passes else None


def _own_source(group: Group, groups: Sequence[Group]) -> str | None:
    """The hash of a method's code, where another row of it has other code."""
    mine = group.run.manifest.sources.get(group.method)
    others = [each.run.manifest.sources.get(each.method) for each in groups if each.method == group.method]
    if mine is None or all(other in (None, mine) for other in others):
        return None
    return f"source {(mine.sha256 or 'not read')[:8]}"


def _unproven(group: Group, control: Group | None) -> str | None:
    """The label in place of `lossless` where a difference is visible but no tie can be proven."""
    cannot = group.run.manifest.profile["cloud"].get("backend") == "openai"
    if not (cannot and control and control is not group and group.run.manifest.lossless[group.method]):
        return None
    both = verdict.pairs(control.records, group.records)
    equal = sum(theirs.tokens == ours.tokens for theirs, ours in both)
    return f"{equal} of {len(both)} texts equal to the control's"


def _known(reduce: Callable[[list], NumberT], values: Sequence[NumberT | None]) -> NumberT | None:
    known = [value for value in values if value is not None]
    return reduce(known) if known else None
