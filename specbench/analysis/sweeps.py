"""Stored runs of a sweep as rows of a grid, the same that a replay gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from specbench.analysis.comparison import compare
from specbench.analysis.grid import Row
from specbench.bench.store import RunStore
from specbench.bench.sweep import Sweep
from specbench.errors import SpecbenchError
from specbench.records import CONTROL, Generation, Run

DRAFT_LENGTH = "speculative.draft_length"


def rows_of(sweep: Sweep, store: RunStore) -> tuple[list[Row], list[str]]:
    """The rows of all conditions that have a stored run, in their order, and why others are left out."""
    rows, left_out = [], []
    for index, condition in enumerate(sweep.conditions):
        if index not in sweep.runs:
            left_out.append(f"left out, {condition}: no run of it is on record")
            continue
        try:
            rows += measured_rows(store.read(sweep.runs[index]), condition)
        except SpecbenchError as error:
            left_out.append(f"left out, {condition}: {error}")
    return rows, left_out


def title_of(sweep: Sweep) -> str:
    """What a sweep's map is called."""
    return f"sweep {sweep.sweep_id} · profile {sweep.profile} · measured, {len(sweep.finished)} runs"


def measured_rows(run: Run, condition: Mapping[str, object]) -> list[Row]:
    """Every method of a run under one condition, its draft length taken out of it.

    Args:
        condition: the values of the profile's keys that the sweep varies.
    """
    others = {key: value for key, value in condition.items() if key != DRAFT_LENGTH}
    length = condition.get(DRAFT_LENGTH, run.manifest.profile["speculative"]["draft_length"])
    rows = []
    for summary in compare([run]).methods:
        records = [each for each in run.generations if each.method == summary.method and not each.interrupted]
        if summary.tpot_ms is None or summary.speedup_vs_control is None:
            continue  # nothing follows a first token, or no control to compare with
        rows.append(
            Row(
                method=summary.method,
                draft_length=length if summary.acceptance else None,
                condition=others,
                ttft_ms=summary.ttft_ms,
                tpot_ms=summary.tpot_ms,
                ms_per_token=_ms_per_token(records),
                speedup=summary.speedup_vs_control,
                acceptance_length=summary.acceptance_length,
                acceptance_rate=summary.acceptance_rate,
                wasted_tokens=sum(part.wasted_draft_tokens or 0 for each in records for part in each.rounds),
                interval=summary.speedup_interval,
                measured=True,
                lossless=summary.lossless,
            )
        )
    return sorted(rows, key=lambda row: row.method != CONTROL)


def _ms_per_token(records: Sequence[Generation]) -> float:
    following = sum(len(record.tokens) - len(record.rounds[0].tokens) for record in records)
    return sum(record.total_ms - record.ttft_ms for record in records) / following
