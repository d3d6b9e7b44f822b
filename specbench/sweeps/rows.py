"""Stored runs of a sweep as rows of a grid, the same that a replay gives."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from specbench.benchmark.child_process import Ended
from specbench.benchmark.differences import SOURCE, differences, outcome
from specbench.benchmark.sweep_record import Sweep, in_words
from specbench.dataframe import frame
from specbench.errors import ExitCode, SpecbenchError
from specbench.forecast.grid import Grid, Row
from specbench.results.derived import MethodSummary
from specbench.results.records import CONTROL, Generation, Manifest, Run
from specbench.results.store import RunStore
from specbench.stats import verdict
from specbench.stats.comparison import compare
from specbench.stats.groups import groups_of
from specbench.stats.notes import wrong_notes
from specbench.stats.repetition import loop_warnings
from specbench.stats.title import settings
from specbench.stats.topology import place

if TYPE_CHECKING:
    from pandas import DataFrame

logger = logging.getLogger(__name__)

DRAFT_LENGTH = "speculative.draft_length"
ROLES = {"edge", "cloud"}


@dataclass(frozen=True)
class Swept:
    """What the stored runs of a sweep say by now.

    Args:
        rows: of all conditions that have a stored run, in their order.
        title: what was measured, and how.
        notes: what is wrong with runs that are shown.
        left_out: the other conditions, and why.
        code: the gravest of what the runs ended with.
        failed: how conditions ended that did not come to their end, by their number; of this sitting alone.
    """

    sweep: Sweep
    rows: list[Row]
    title: str
    notes: list[str]
    left_out: list[str]
    code: ExitCode
    failed: dict[int, Ended] = field(default_factory=dict)

    @property
    def grid(self) -> Grid:
        """The same, as a replay or a plan has it."""
        head = {"sweep": self.sweep.sweep_id, "runs": self.sweep.runs, "notes": self.notes}
        return Grid(self.rows, self.title, head, [*self.left_out, *self.notes])

    def to_frame(self) -> DataFrame:
        """A row for each method under each condition, as a pandas DataFrame.

        Raises:
            SpecbenchError: pandas is not installed.
        """
        return frame([_flat(row) for row in self.rows])


def swept(sweep: Sweep, store: RunStore) -> Swept:
    """Read what is on record of a sweep."""
    found, runs, notes, left_out = [], [], [], []
    for index, condition in enumerate(sweep.conditions):
        if index not in sweep.runs:
            left_out.append(f"left out, {in_words(condition)}: no stored run")
            continue
        try:
            run = store.read(sweep.runs[index])
            runs.append(run)
            wrong = [
                *_loops(run),
                *_wrong(run.manifest),
                *_elsewhere(runs[0].manifest, run.manifest, sweep.over),
            ]
            notes += [f"{in_words(condition)}: {line}" for line in wrong]
            if run.faults:
                left_out.append(f"left out, {in_words(condition)}: {run.faults[0]}")
                continue
            found += _measured(run, condition)
        except SpecbenchError as error:
            left_out.append(f"left out, {in_words(condition)}: {error}")
    return Swept(
        sweep,
        rows=_corrected(found),
        title=_title(sweep, runs),
        notes=notes,
        left_out=left_out,
        code=max((outcome(run.manifest) for run in runs), default=ExitCode.OK),
    )


def measured_grid(sweep: Sweep, store: RunStore) -> Grid:
    """What is on record of a sweep, as a grid; what is left out is logged.

    Raises:
        SpecbenchError: nothing of it is finished.
    """
    made = swept(sweep, store)
    for line in made.left_out:
        logger.info(line)
    if not made.rows:
        raise SpecbenchError(
            f"sweep {sweep.sweep_id} has no finished run",
            f"resume it with 'specbench sweep --resume {sweep.sweep_id}'",
            ExitCode.STORE,
        )
    return made.grid


def _title(sweep: Sweep, runs: Sequence[Run]) -> str:
    """What a sweep's map is called; of a setting that is varied the first and the last value are named."""
    links: dict[str, list[Run]] = {}
    for run in runs:
        profile = run.manifest.profile
        links.setdefault(json.dumps([profile["cloud"].get("placement"), profile.get("link")]), []).append(run)
    known = [dict.fromkeys(place(each) for each in links.values())]
    known += [dict.fromkeys(words) for words in zip(*(settings([run]) for run in runs), strict=True)]
    parts = [f"sweep {sweep.sweep_id}", f"profile {sweep.profile}", f"measured, {len(sweep.finished)} runs"]
    parts += [" / ".join(_ends(list(words))) for words in known if words]
    return " · ".join([*parts, *sweep.overrides])


def _flat(row: Row) -> dict[str, object]:
    values = asdict(row)
    return {"method": values.pop("method"), **values.pop("condition"), **values}


def _ends(words: list[str]) -> list[str]:
    return words if len(words) < 3 else [words[0], "...", words[-1]]


def _wrong(manifest: Manifest) -> Iterator[str]:
    yield from wrong_notes(manifest)
    for failure in manifest.failures:
        yield f"{failure.method} failed in run {manifest.run_id}: {failure.error}"


def _loops(run: Run) -> Iterator[str]:
    groups = groups_of([run])
    return loop_warnings((group.name, group.records) for group in groups)


def _elsewhere(first: Manifest, run: Manifest, over: Mapping[str, Sequence[object]]) -> Iterator[str]:
    """In what a run's machine, versions or models differ from the first one's, if not by what is varied."""
    varied = {key.partition(".")[0] for key in over}
    for key, theirs, ours in differences(first, run):
        part, *names = key.split(".")
        has_moved = key.startswith(SOURCE) or not {"machine", "versions"}.isdisjoint((part, *names[:2]))
        if has_moved or (part == "models" and names[0] not in varied):
            yield f"{key} of run {run.run_id} is {ours}, and of run {first.run_id} {theirs}"


def _measured(run: Run, condition: Mapping[str, object]) -> list[tuple[Row, verdict.Speedup]]:
    """Every method of a run under one condition, its draft length taken out of it; and its speed-up.

    Args:
        condition: the values of the profile's keys that the sweep varies.
    """
    others = {key: value for key, value in condition.items() if key != DRAFT_LENGTH}
    length: Any = condition.get(DRAFT_LENGTH, run.manifest.profile["speculative"]["draft_length"])
    records = {method: run.of(method) for method in run.manifest.methods}
    found = []
    for summary in compare([run]).methods:
        mine = records[summary.method]
        if summary.tpot_ms is None or summary.speedup_vs_control is None:
            continue  # nothing follows a first token, or no control to compare with
        row = Row(
            method=summary.method,
            # The control of each draft length is in a run of its own, and its row says in which.
            draft_length=length
            if summary.acceptance or (summary.method == CONTROL and DRAFT_LENGTH in condition)
            else None,
            condition=others,
            ttft_ms=summary.ttft_ms,
            tpot_ms=summary.tpot_ms,
            ms_per_token=_ms_per_token(mine),
            speedup=summary.speedup_vs_control,
            acceptance_length=summary.acceptance_length,
            acceptance_rate=summary.acceptance_rate,
            wasted_tokens=sum(part.wasted_draft_tokens or 0 for each in mine for part in each.rounds),
            interval=summary.speedup_interval,
            measured=True,
            lossless=None if summary.bugs else summary.lossless,
            bugs=summary.bugs,
            **_joules(summary, run.manifest),
            cost_per_million=summary.money.shared if summary.money else None,
        )
        found.append((row, verdict.speedup(records[CONTROL], mine, run.manifest.restart_repeats)))
    return sorted(found, key=lambda each: each[0].method != CONTROL)


def _joules(summary: MethodSummary, manifest: Manifest) -> dict[str, float]:
    """Joules per token of a role that counters tell apart, and of all where every role is counted."""
    known = {each.roles: each.joules_per_token for each in summary.energy}
    counted = [role for roles in known for role in roles]
    found = {
        f"{roles[0]}_joules_per_token": joules
        for roles, joules in known.items()
        if len(roles) == 1 and counted.count(roles[0]) == 1
    }
    is_whole = known and set(counted) >= ROLES & set(manifest.models)
    return {**found, "joules_per_token": sum(known.values())} if is_whole else found


def _corrected(found: Sequence[tuple[Row, verdict.Speedup]]) -> list[Row]:
    """Rows with intervals for the best of a method's draft lengths under a condition, whichever it is."""
    rows = [row for row, _ in found]
    together: dict[tuple[str, str], list[int]] = {}
    for index, row in enumerate(rows):
        together.setdefault((row.method, json.dumps(list(row.condition.values()))), []).append(index)
    for (method, _), lengths in together.items():
        if method == CONTROL or len(lengths) == 1:
            continue
        intervals = verdict.corrected_intervals([found[index][1] for index in lengths])
        for index, interval in zip(lengths, intervals, strict=True):
            rows[index] = replace(rows[index], interval=interval)
    return rows


def _ms_per_token(records: Sequence[Generation]) -> float:
    following = sum(len(record.tokens) - len(record.rounds[0].tokens) for record in records)
    return sum(record.total_ms - record.ttft_ms for record in records) / following
