"""The likeliest outcomes of a verification, for which a draft goes on while it is in flight.

Speculative speculative decoding (Kumar, Dao and May 2026, arXiv 2603.03251). There the draft prepares while the
target computes; here also while proposal and verdict cross a link.
"""

from __future__ import annotations

from typing import NamedTuple

from specbench.speculation.draft_length import FIRST_GUESS, GUESS_WEIGHT

MISSED = 0.4  # along 1,102 tokens of the default pair, whose draft cannot say some tokens at all


class Outcome(NamedTuple):
    """How a verification may end.

    Args:
        accepted: drafted tokens that stand.
        rank: which of the draft's own choices the target puts behind them; 0 is the draft's first, with which
            only a proposal ends that stands whole.
    """

    accepted: int
    rank: int


class LikelyOutcomes:
    """The likeliest outcomes, by what this sequence has shown.

    A token stands with the chance α, the share of judged tokens that stood. Where one is refused, the draft's
    first n other choices miss the target's with the chance (n + 1)**-MISSED: a power law, as in the paper.

    Args:
        count: of outcomes that are drafted for.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._stood = GUESS_WEIGHT * FIRST_GUESS
        self._judged = GUESS_WEIGHT

    def of(self, drafted: int) -> list[Outcome]:
        """Those of a proposal of so many tokens, the likeliest first."""
        alpha = self._stood / self._judged
        found = [(alpha ** (drafted + 1), Outcome(drafted, 0))]
        for accepted in range(drafted + 1):
            refused = alpha**accepted * (1 - alpha)
            found += [
                (refused * (rank**-MISSED - (rank + 1) ** -MISSED), Outcome(accepted, rank))
                for rank in range(1, self._count + 1)
            ]
        found.sort(key=lambda each: -each[0])
        return [outcome for _, outcome in found[: self._count]]

    def observe(self, drafted: int, accepted: int) -> None:
        """What became of a proposal."""
        self._judged += min(drafted, accepted + 1)
        self._stood += accepted
