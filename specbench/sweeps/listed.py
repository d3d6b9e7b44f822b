"""All sweeps on record at a glance, damaged ones included."""

from __future__ import annotations

from dataclasses import dataclass

from specbench.benchmark import sweep_record as sweeps
from specbench.errors import SpecbenchError
from specbench.results.run_list import DAMAGED
from specbench.results.store import RunStore


@dataclass(frozen=True)
class SweepInfo:
    """One sweep on record. What a damaged record does not say is empty.

    Args:
        over: the values that are varied, by key of the profile.
        conditions: how many combinations there are; `finished` so many of them are done.
        status: `finished`, `unfinished`, or `damaged`.
    """

    sweep_id: str
    profile: str | None
    methods: tuple[str, ...]
    over: dict[str, list]
    conditions: int
    finished: int
    status: str


def list_sweeps(store: RunStore) -> list[SweepInfo]:
    """All sweeps of a store, oldest first."""
    return [_info(store, sweep_id) for sweep_id in sweeps.known_ids(store)]


def _info(store: RunStore, sweep_id: str) -> SweepInfo:
    try:
        known = sweeps.read(store, sweep_id)
    except SpecbenchError:
        return SweepInfo(sweep_id, None, (), {}, 0, 0, DAMAGED)
    conditions, finished = len(known.conditions), len(known.finished)
    status = "finished" if finished == conditions else "unfinished"
    return SweepInfo(sweep_id, known.profile, known.methods, known.over, conditions, finished, status)
