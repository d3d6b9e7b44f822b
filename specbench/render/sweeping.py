"""Progress over a whole sweep: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from specbench.render import console
from specbench.render.bars import Bars
from specbench.render.live import View
from specbench.sweeps.time_left import SweepProgress, in_words

SAY_EVERY_S = 30.0


class LiveSweepView(View):
    """A bar for the grid and one for its condition; what the runs write scrolls by above them."""

    def __init__(self) -> None:
        self.bars = Bars(lambda task: task.fields["texts"])
        self._grid, self._condition = (
            self.bars.add_task(name, total=1.0, texts=("", "")) for name in ("sweep", "this one")
        )
        self.bars.start()

    def advanced(self, progress: SweepProgress) -> None:
        """Keep the newest snapshot; drawing happens elsewhere."""
        total = progress.answers_total
        share = progress.answers / total if total else 0.0
        answers = f"{progress.answers}/{total} answers" if total else "begins"
        conditions = f"{progress.done}/{progress.total} conditions"
        grid = (progress.done + share) / progress.total
        self.bars.update(self._grid, completed=grid, texts=(conditions, in_words(progress.left_s)))
        self.bars.update(self._condition, completed=share, texts=(answers, progress.condition))

    def close(self) -> None:
        """Take the bars down."""
        self.bars.stop()


class PlainSweepView(View):
    """A line when a condition begins, and one every half a minute, for logs."""

    def __init__(self) -> None:
        self._condition: str | None = None
        self._said_s = 0.0

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


def make_sweep_view() -> LiveSweepView | PlainSweepView:
    """The view that suits stderr."""
    return LiveSweepView() if console.err.is_terminal else PlainSweepView()
