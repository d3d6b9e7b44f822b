"""Whether drafting on pays while a verification is under way."""

from __future__ import annotations

NEWEST = 0.3  # weight of the newest round


class AheadWindow:
    """Weighs one more draft step against the wait for a verdict, by what this text has shown.

    A step of s ms that begins with x < s ms left of a round trip ends s - x too late. If what is drafted ahead
    stands (with probability p) the x ms were won; if not, s - x are lost. So it pays while x > (1 - p)·s, and
    drafting ahead by that rule is expected to be no slower than waiting.
    """

    def __init__(self) -> None:
        self._tried = self._stood = 0
        self._round_trip_ms: float | None = None
        self._step_ms = 0.0

    def pays(self, elapsed_ms: float) -> bool:
        """Whether to draft one more token, so long after a proposal was sent; yes while nothing is known."""
        if self._round_trip_ms is None:
            return True
        fails = 1 - (self._stood + 1) / (self._tried + 2)
        return self._round_trip_ms - elapsed_ms > fails * self._step_ms

    def observe(self, round_trip_ms: float, step_ms: float | None, stood: bool | None) -> None:
        """What became of a round.

        Args:
            round_trip_ms: from sending a proposal until its verdict was there.
            step_ms: what drafting a token took; `None` when none was drafted.
            stood: whether what was drafted ahead stood; `None` when nothing was.
        """
        weight = NEWEST if self._round_trip_ms is not None else 1.0
        known = self._round_trip_ms or 0.0
        self._round_trip_ms = known + weight * (round_trip_ms - known)
        if step_ms is not None:
            self._step_ms += (NEWEST if self._step_ms else 1.0) * (step_ms - self._step_ms)
        if stood is not None:
            self._tried += 1
            self._stood += stood
