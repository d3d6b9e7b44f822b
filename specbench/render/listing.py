"""Lists of what is stored: runs, and sweeps below them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.console import RenderableType

from specbench.render.fitting import Fitted
from specbench.results.run_list import RunInfo
from specbench.sweeps.listed import SweepInfo

RUN_COLUMNS = ("name", "started", "size", "status", "profile", "methods")
SWEEP_COLUMNS = ("done", "status", "profile", "methods", "varied")


def stored(runs: Sequence[RunInfo], sweeps: Sequence[SweepInfo]) -> Iterator[RenderableType]:
    """A table of runs, and one of sweeps; each where there are any."""
    if runs:
        yield Fitted(("run",), RUN_COLUMNS, [_run(each) for each in runs], words=len(RUN_COLUMNS))
    if sweeps:
        yield Fitted(("sweep",), SWEEP_COLUMNS, [_sweep(each) for each in sweeps], words=len(SWEEP_COLUMNS))


def _run(each: RunInfo) -> tuple[str, ...]:
    date = datetime.fromisoformat(each.started_at).astimezone() if each.started_at else None
    return (
        *(each.run_id, each.name or "-", f"{date:%d %b %H:%M}" if date else "-"),
        *(f"{each.size_bytes / 1e6:.1f} MB", each.status, each.profile or "-", ", ".join(each.methods) or "-"),
    )


def _sweep(each: SweepInfo) -> tuple[str, ...]:
    varied = "; ".join(f"{key} = {', '.join(map(str, values))}" for key, values in each.over.items())
    done = f"{each.finished} of {each.conditions}" if each.conditions else "-"
    return (
        each.sweep_id, done, each.status, each.profile or "-", ", ".join(each.methods) or "-", varied or "-",
    )  # fmt: skip
