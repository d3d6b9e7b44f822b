"""Progress over a whole sweep: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from specbench.bench.timeleft import SweepProgress, in_words
from specbench.render import console
from specbench.render.live import REFRESH_PER_SECOND, bars

SAY_EVERY_S = 30.0


class LiveSweepView:
    """A bar for the grid and one for its condition; what the runs write scrolls by above them."""

    def __init__(self) -> None:
        self._progress: SweepProgress | None = None
        self._live = Live(
            get_renderable=self._render,
            console=console.err,
            refresh_per_second=REFRESH_PER_SECOND,
            transient=True,
        )
        self._live.start()

    def note(self, line: str) -> None:
        """Print it above the bars."""
        console.note(line)

    def advanced(self, progress: SweepProgress) -> None:
        """Keep the newest snapshot; drawing happens elsewhere."""
        self._progress = progress

    def close(self) -> None:
        """Take the bars down."""
        self._live.stop()

    def _render(self) -> RenderableType:
        found = self._progress
        if found is None:
            return Text("")
        share = found.answers / found.answers_total if found.answers_total else 0.0
        answers = f"{found.answers}/{found.answers_total} answers" if found.answers_total else "begins"
        conditions = f"{found.done}/{found.total} conditions"
        rows = [
            ("sweep", (found.done + share) / found.total, (conditions, in_words(found.left_s))),
            ("this one", share, (answers, found.condition)),
        ]
        return bars(rows, console.err.width)


class PlainSweepView:
    """A line when a condition begins, and one every half a minute, for logs."""

    def __init__(self) -> None:
        self._condition: str | None = None
        self._said_s = 0.0

    def note(self, line: str) -> None:
        """Print it."""
        console.note(line)

    def advanced(self, progress: SweepProgress) -> None:
        """Say where the sweep is, if that is new or was long ago."""
        now_s = time.monotonic()
        if progress.condition == self._condition and now_s - self._said_s < SAY_EVERY_S:
            return
        begins, self._condition, self._said_s = progress.condition != self._condition, progress.condition, now_s
        line = f"condition {progress.done + 1} of {progress.total}: {progress.condition}"
        if not begins and progress.answers_total:
            line += f", {progress.answers}/{progress.answers_total} answers"
        console.note(f"{line}; {in_words(progress.left_s)}")

    def close(self) -> None:
        """Nothing to take down."""


def make_sweep_view() -> LiveSweepView | PlainSweepView:
    """The view that suits stderr."""
    return LiveSweepView() if console.err.is_terminal else PlainSweepView()
