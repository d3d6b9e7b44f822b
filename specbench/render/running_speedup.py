"""Speed-ups while a run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from specbench.render.cells import bracketed
from specbench.results.records import CONTROL

if TYPE_CHECKING:
    from specbench.benchmark.observer import Progress
    from specbench.results.records import Generation


class RunningSpeedups:
    """The speed-up of each lossless method over the prompts that it and the control have answered.

    An interval takes milliseconds, so it is worked out between prompts, and not when drawing.
    """

    def __init__(self, progress: Sequence[Progress]) -> None:
        import scipy.special  # noqa: F401  # here, and not beside a clock once there are prompts enough

        self._records = {part.method: list(part.finished) for part in progress}
        self._texts: dict[str, str] = {}
        for name in self._records:
            self._update(name)

    def add(self, method: str, records: Sequence[Generation]) -> None:
        """Take in the answers to one more prompt."""
        self._records[method] += records
        for name in self._records if method == CONTROL else (method,):
            self._update(name)

    def text(self, method: str) -> str:
        """The speed-up, with its interval where there are prompts enough."""
        return self._texts.get(method, "")

    def _update(self, method: str) -> None:
        from specbench.stats.verdict import speedup

        records, control = self._records[method], self._records.get(CONTROL, [])
        if method == CONTROL or not records or not records[0].lossless:
            return
        found = speedup(control, records)
        if found.ratio is None:
            return
        self._texts[method] = f"{found.ratio:.2f}x{bracketed(found.interval)}"
