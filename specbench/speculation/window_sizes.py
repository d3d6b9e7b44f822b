"""How many proposals to have in flight, and how long: the profile's numbers, or the best by what was seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from specbench.profile.decoding import WIDEST_WINDOW
from specbench.results.records import Round
from specbench.speculation.draft_length import GUESS_WEIGHT, LONGEST, START, DraftLengths

CANDIDATES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32)
"""Draft lengths that `auto` weighs; between longer ones the time per token hardly differs."""
WORTH = 0.01  # a wider window must save so much of the time per token: what it drafts is mostly wasted
WIDEST = 2 * LONGEST + 2
LEAST_CHANCE = 0.05  # that all in flight stands, before any verdict came


class WindowSizes:
    """The window and the draft length of one sequence.

    With `auto` it is the pair that makes the expected time per token smallest, and of windows that come within
    `WORTH` of it the narrowest: that bounds the wasted draft tokens. A proposal of γ tokens stands whole with
    the chance A = Πα, the product of conditional acceptances, so A / (1 - A) of them stand before one is
    refused. The first verdict comes after L = drafting + verification + round trip. The others come in batches
    of k, the proposals that arrive during a pass and share the next one: at most half the window, for the
    others are in that pass. A batch takes B, the most of its pass, of drafting it, and of L and a wait by the
    window. A refusal finds the edge amid a proposal, half of it to come. So an epoch takes
    L + B · A / (1 - A^k) + drafting / 2. A window of one is `DraftLengths`' formula.

    Args:
        window: proposals in flight at most, or `auto`.
        draft_length: tokens of a proposal, or `auto`.
        guess_weight: as of `DraftLengths`.

    Attributes:
        ms_per_token: expected of the window and the draft length that were chosen last; unknown at first.
    """

    ms_per_token = math.inf

    def __init__(
        self,
        window: int | Literal["auto"],
        draft_length: int | Literal["auto"],
        guess_weight: float = GUESS_WEIGHT,
    ) -> None:
        self._windows = range(1, WIDEST_WINDOW + 1) if window == "auto" else (window,)
        self._draft_lengths = CANDIDATES if draft_length == "auto" else (draft_length,)
        self._seen = DraftLengths(draft_length, guess_weight)
        first = START if draft_length == "auto" else draft_length
        self._draft_length = first
        self.window = 2 if window == "auto" else window
        """Proposals in flight at most."""
        while window == "auto" and self._chance(first * (self.window + 1)) >= LEAST_CHANCE:
            self.window += 1

    def draft_length(self, limit: int) -> int:
        """Tokens of the next proposal, at most `limit`."""
        return min(self._draft_length, limit)

    @property
    def verification(self) -> tuple[float, float]:
        """As of `DraftLengths`."""
        return self._seen.verification

    @property
    def judged(self) -> tuple[int, int]:
        """How many drafted tokens stood, and how many did not."""
        return self._seen.judged

    @property
    def step_ms(self) -> float:
        """As of `DraftLengths`."""
        return self._seen.step_ms

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
        self.ms_per_token = found[self.window, self._draft_length]

    def _times_ms(self, length: int) -> dict[int, float]:
        """By window, the expected milliseconds of a token at this draft length."""
        found, survival = {}, self._seen.survival(length)
        for window in self._windows:
            ms, tokens, is_full = self._epoch(window, length, survival)
            found[window] = ms / tokens
            if is_full:
                break
        return found

    def expected(self, acceptance: float) -> tuple[float, float]:
        """Milliseconds and tokens of an epoch of the chosen size, if drafted tokens stood with this chance."""
        survival = [acceptance**position for position in range(1, self._draft_length + 1)]
        return self._epoch(self.window, self._draft_length, survival)[:2]

    def _epoch(self, window: int, length: int, survival: list[float]) -> tuple[float, float, bool]:
        """As `epoch`, by what was seen."""
        plain_ms, token_ms = self._seen.verification
        pass_ms = [plain_ms + (width - 1) * token_ms for width in range(WIDEST)]
        draft_ms = length * self._seen.step_ms
        return epoch(window, length, survival, draft_ms, draft_ms, pass_ms, self._seen.rtt_ms)

    def _chance(self, tokens: int) -> float:
        """That so many drafted tokens in a row stand, before anything was seen."""
        return self._seen.acceptance[0] ** tokens


def epoch(
    window: int,
    length: int,
    survival: Sequence[float],
    first_draft_ms: float,
    draft_ms: float,
    pass_ms: Sequence[float],
    rtt_ms: float,
) -> tuple[float, float, bool]:
    """What an epoch of proposals is expected to take; see `WindowSizes`.

    Args:
        window: proposals in flight at most.
        length: tokens of each.
        survival: by position, the chance that the tokens of a proposal up to there stand.
        first_draft_ms: what drafting the first proposal takes, while the target waits; `draft_ms` another one.
        pass_ms: by width, of a pass.

    Returns:
        Milliseconds, tokens, and whether a wider window would fill no faster.
    """
    if window == 1:
        return first_draft_ms + pass_ms[length + 1] + rtt_ms, 1 + sum(survival), False
    token_ms = max(0.0, (pass_ms[2 * length] - pass_ms[length]) / length)
    first_token_ms = pass_ms[length] - length * token_ms
    first_ms = first_draft_ms + pass_ms[length] + rtt_ms
    whole = min(survival[-1], 1 - 1e-6)
    stand = whole / (1 - whole)
    partly = (sum(survival) - length * whole) / (1 - whole)
    # So many proposals arrive while a pass takes place, and share the next one; as many are in that pass.
    idle_ms = draft_ms - length * token_ms
    together = max(1.0, min(window / 2, first_token_ms / idle_ms if idle_ms > 0 else window))
    drawn_ms = max(first_token_ms + together * length * token_ms, together * draft_ms)
    # Where the target is the slower one, each waits for the pass that others are in.
    waits_ms = draft_ms + pass_ms[length] + rtt_ms + (drawn_ms if together > 1 else 0.0)
    batch_ms = max(drawn_ms, together * waits_ms / window)
    epoch_ms = first_ms + batch_ms * whole / (1 - whole**together) + draft_ms / 2
    return epoch_ms, stand * length + partly + 1, batch_ms <= drawn_ms and together < window / 2
