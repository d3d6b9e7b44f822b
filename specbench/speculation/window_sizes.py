"""How many proposals to have in flight, and how long: the profile's numbers, or the best by what was seen."""

from __future__ import annotations

from typing import Literal

from specbench.profile.decoding import WIDEST_WINDOW
from specbench.results.records import Round
from specbench.speculation.draft_length import START, DraftLengths

CANDIDATES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32)
"""Draft lengths that `auto` weighs; between longer ones the time per token hardly differs."""
WORTH = 0.01  # a wider window must save so much of the time per token: what it drafts is mostly wasted
LEAST_CHANCE = 0.05  # that all in flight stands, before any verdict came


class WindowSizes:
    """The window and the draft length of one sequence.

    With `auto` it is the pair that makes the expected time per token smallest, and of windows that come within
    `WORTH` of it the narrowest: that bounds the wasted draft tokens. A proposal of γ tokens stands whole with
    the chance A = Πα, the product of conditional acceptances, so A / (1 - A) of them stand before one is
    refused. The first verdict comes after L = drafting + verification + round trip, each further one a pace
    later: the most of drafting, of a pass over the whole window and of L, these two divided by the window. A
    refusal finds the edge amid a proposal, half of it to come. So an epoch takes L + A / (1 - A) · pace +
    drafting / 2. A window of one is `DraftLengths`' formula.

    Args:
        window: proposals in flight at most, or `auto`.
        draft_length: tokens of a proposal, or `auto`.
    """

    def __init__(self, window: int | Literal["auto"], draft_length: int | Literal["auto"]) -> None:
        self._windows = range(1, WIDEST_WINDOW + 1) if window == "auto" else (window,)
        self._draft_lengths = CANDIDATES if draft_length == "auto" else (draft_length,)
        self._seen = DraftLengths(draft_length)
        first = START if draft_length == "auto" else draft_length
        self._draft_length = first
        self.window = 2 if window == "auto" else window
        """Proposals in flight at most."""
        while window == "auto" and self._chance(first * (self.window + 1)) >= LEAST_CHANCE:
            self.window += 1

    def draft_length(self, limit: int) -> int:
        """Tokens of the next proposal, at most `limit`."""
        return min(self._draft_length, limit)

    def observe(self, commit: Round, draft_ms: float, rtt_ms: float | None) -> None:
        """What became of a proposal.

        Args:
            draft_ms: what drafting it took.
            rtt_ms: the round trip without the target's computing; `None` without a link.
        """
        drafted = commit.drafted or 0
        self._seen.observe(commit, drafted, draft_ms, drafted, rtt_ms)
        if len(self._windows) == len(self._draft_lengths) == 1:
            return
        found = {
            (window, length): ms
            for length in self._draft_lengths
            for window, ms in self._times_ms(length).items()
        }
        enough = min(found.values()) * (1 + WORTH)
        self.window, self._draft_length = min(
            (size for size, ms in found.items() if ms <= enough), key=lambda size: (size[0], found[size])
        )

    def _times_ms(self, length: int) -> dict[int, float]:
        """By window, the expected milliseconds of a token at this draft length."""
        plain_ms, token_ms = self._seen.verification
        survival = self._seen.survival(length)
        draft_ms, first_token_ms = length * self._seen.step_ms, plain_ms - token_ms
        first_ms = draft_ms + first_token_ms + length * token_ms + self._seen.rtt_ms
        whole = min(survival[-1], 1 - 1e-6)
        stand = whole / (1 - whole)
        partly = (sum(survival) - length * whole) / (1 - whole)
        found = {}
        for window in self._windows:
            if window == 1:
                found[1] = (first_ms + token_ms) / (1 + sum(survival))
                continue
            pass_ms = first_token_ms + window * length * token_ms
            pace_ms = max(draft_ms, pass_ms / window, first_ms / window)
            epoch_ms = first_ms + stand * pace_ms + draft_ms / 2
            found[window] = epoch_ms / (stand * length + partly + 1)
            if pace_ms <= draft_ms:
                break  # a wider window would fill no faster
        return found

    def _chance(self, tokens: int) -> float:
        """That so many drafted tokens in a row stand, before anything was seen."""
        return self._seen.acceptance[0] ** tokens
