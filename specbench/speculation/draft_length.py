"""How many tokens to draft in the next round: the profile's number, or the best by what this text has shown."""

from __future__ import annotations

from itertools import accumulate
from operator import mul
from typing import Literal

from specbench.results.records import Round

LONGEST = 32
START = 6  # before anything was measured
FIRST_GUESS = 0.7  # acceptance of a token, before any was judged ...
GUESS_WEIGHT = 4.0  # ... weighing as much as so many tokens
POSITION_WEIGHT = 15.0  # what all positions share weighs as much as so many tokens at each of them
WIDTH_SHARE = (
    0.05  # what one more token adds to a verification, as a share of the first, before it was seen ...
)
WIDTH_WEIGHT = 4.0  # ... weighing as much as one round at this squared distance in width
NEWEST = 0.3  # weight of the newest round trip: links change


class DraftLengths:
    """The draft length of each round of one text; a new text takes a new object, so nothing is carried over.

    With `auto` it is the length γ that makes (γ·draft + verify(γ + 1) + round trip) / E[tokens | γ] smallest,
    with E[tokens | γ] = 1 + Σᵢ Πⱼ≤ᵢ αⱼ (Leviathan et al. 2023, equation 1, with an acceptance by position)
    and all costs as measured in this text. The delay is paid once a round whatever its length, and survival
    falls geometrically, so the best length grows with the logarithm of the delay (arXiv 2606.20591).

    Args:
        draft_length: tokens a round, or `auto`.
        guess_weight: how many judged tokens the first guess of acceptance weighs as much as.
        first_guess: of acceptance.
    """

    def __init__(
        self,
        draft_length: int | Literal["auto"],
        guess_weight: float = GUESS_WEIGHT,
        first_guess: float = FIRST_GUESS,
    ) -> None:
        self._fixed = None if draft_length == "auto" else draft_length
        self._guess_weight, self._first_guess = guess_weight, first_guess
        self._stood = [0] * LONGEST
        self._judged = [0] * LONGEST
        self._draft_ms = self._steps = 0.0
        self.rtt_ms = 0.0
        """A moving mean of the round trip, without the target's computing."""
        # Sums of a line through (drafted, verify_ms); the prior is a point of its own.
        self._rounds = self._x = self._xx = self._y = self._xy = 0.0

    def next(self, limit: int) -> int:
        """Tokens to draft now, never more than `limit`; with `auto` at least 1 where `limit` allows it."""
        if self._fixed is not None:
            return min(self._fixed, limit)
        if not self._rounds:
            return min(START, limit)
        return min(self._best(), limit)

    def observe(self, commit: Round, drafted: int, draft_ms: float, steps: int, rtt_ms: float | None) -> None:
        """What became of a round.

        Args:
            drafted: tokens that were verified.
            draft_ms: what drafting took, for `steps` tokens.
            rtt_ms: the round trip without the target's computing; `None` without a link.
        """
        accepted = commit.accepted or 0
        for position in range(min(drafted, accepted + 1, LONGEST)):
            self._judged[position] += 1
            self._stood[position] += position < accepted
        self.spend(draft_ms, steps)
        if commit.pass_tokens == 0:
            return  # judged in the pass of another proposal
        verify_ms = commit.verify_ms or 0.0
        width = drafted if commit.pass_tokens is None else commit.pass_tokens - 1
        if rtt_ms is not None:
            self.rtt_ms += (NEWEST if self._rounds else 1.0) * (rtt_ms - self.rtt_ms)
        self._rounds += 1
        self._x += width
        self._xx += width**2
        self._y += verify_ms
        self._xy += width * verify_ms

    def spend(self, draft_ms: float, steps: int) -> None:
        """What drafting so many tokens took, whatever becomes of them."""
        self._draft_ms += draft_ms
        self._steps += steps

    @property
    def judged(self) -> tuple[int, int]:
        """How many drafted tokens stood, and how many did not."""
        return sum(self._stood), sum(self._judged) - sum(self._stood)

    @property
    def everywhere(self) -> float:
        """Acceptance of a token at any position."""
        weight = self._guess_weight
        return (sum(self._stood) + weight * self._first_guess) / (sum(self._judged) + weight)

    @property
    def acceptance(self) -> list[float]:
        """Conditional acceptance by position, drawn towards that of all positions where little is known."""
        everywhere = self.everywhere
        return [
            (stood + POSITION_WEIGHT * everywhere) / (judged + POSITION_WEIGHT)
            for stood, judged in zip(self._stood, self._judged, strict=True)
        ]

    @property
    def verification(self) -> tuple[float, float]:
        """Milliseconds of a verification without a draft, and of each drafted token more: least squares.

        The slope is drawn towards `WIDTH_SHARE` of the first, which rules while all widths were alike. Neither
        is below zero, however noisy the times.
        """
        n = self._rounds + WIDTH_WEIGHT * WIDTH_SHARE**2
        x = self._x - WIDTH_WEIGHT * WIDTH_SHARE
        xx = self._xx + WIDTH_WEIGHT
        slope = max((n * self._xy - x * self._y) / (n * xx - x * x), 0.0)
        return max((self._y - slope * x) / n, 0.0), slope

    @property
    def step_ms(self) -> float:
        """What drafting a token takes, in the mean."""
        return self._draft_ms / self._steps if self._steps else 0.0

    def survival(self, length: int) -> list[float]:
        """By position, the chance that a drafted token and all before it stand."""
        shares = self.acceptance
        beyond = shares[-1:] * (length - len(shares))
        return list(accumulate([*shares[:length], *beyond], mul))

    def _best(self) -> int:
        draft_ms = self.step_ms
        plain_ms, token_ms = self.verification
        best, lowest, tokens = 1, float("inf"), 1.0
        for length, survival in enumerate(self.survival(LONGEST), start=1):
            tokens += survival
            ms_per_token = (plain_ms + self.rtt_ms + length * (draft_ms + token_ms)) / tokens
            if ms_per_token < lowest:
                best, lowest = length, ms_per_token
        return best
