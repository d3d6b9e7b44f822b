"""Window and draft length for a target that decodes alone while the edge drafts: the best by what was seen."""

from __future__ import annotations

from math import ceil, inf
from typing import NamedTuple

from specbench.results.records import Round
from specbench.speculation.draft_length import DraftLengths
from specbench.speculation.measured import Measured
from specbench.speculation.window_sizes import WORTH, epoch

LENGTHS = (1, 2, 3, 4, 5, 6, 8, 12, 16)
WINDOWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
START_LENGTH, START_WINDOW = 4, 8  # before anything was measured
FIRST_GUESS = 0.9  # acceptance of a token; high, because a refused draft costs little while the target streams
GUESS_WEIGHT = 4.0  # tokens judged that count as much as the first guess
WAITS = 1.0  # tokens alone that a round trip may take where the target is to wait for a proposal


class Size(NamedTuple):
    """How proposals are made, and whether the target decodes alone until the first one of an epoch arrives."""

    window: int
    length: int
    goes_on: bool


class FilledSizes:
    """The size that makes the expected time per token smallest.

    An epoch begins where the draft was wrong. The first proposal behind that arrives after a round trip and the
    drafting. A target that waits for it loses that time, which `window_sizes.epoch` counts. One that goes on
    alone says n tokens meanwhile. The draft is at an end if it misses one of these, and the time was that of
    the target alone; else, with the chance Sₙ of n hits, what follows is an epoch whose first proposal is there
    already. So an epoch takes N · t + Sₙ · M for N + Sₙ · T tokens, with N = Σ Sᵢ for i < n, t a token alone,
    and M and T of an epoch without its round trip.

    Args:
        costs: what things take.

    Attributes:
        size: what was chosen last.
        ms_per_token: expected of it; unknown at first.
    """

    ms_per_token = inf

    def __init__(self, costs: Measured) -> None:
        self._costs = costs
        self._seen = DraftLengths("auto", GUESS_WEIGHT, FIRST_GUESS)
        self.size = Size(START_WINDOW, START_LENGTH, True)

    @property
    def rtt_ms(self) -> float:
        """A moving mean of the round trip."""
        return self._seen.rtt_ms

    @property
    def judged(self) -> tuple[int, int]:
        """How many drafted tokens stood, and how many did not."""
        return self._seen.judged

    def observe(self, part: Round, rtt_ms: float | None) -> None:
        """What became of drafted tokens."""
        self._seen.observe(part, part.drafted or 0, 0.0, 0, rtt_ms)

    def choose(self) -> None:
        """Choose anew, where enough is known."""
        if not self._costs.knows:
            return
        survival = self._seen.survival(64)
        waits = (False,) if not self._costs.idle_step else (True, False)  # what waiting takes is to be known
        kinds = waits if self.rtt_ms < WAITS * self._costs.alone_ms() else (True,)
        found: dict[Size, float] = {}
        for length in LENGTHS:
            for window in WINDOWS:
                is_full = True
                for goes_on in kinds:
                    size = Size(window, length, goes_on)
                    ms, tokens, full = self._expected(size, survival)
                    found[size] = ms / tokens
                    is_full &= full
                if is_full:
                    break
        enough = min(found.values()) * (1 + WORTH)
        self.size = min(
            (size for size, ms in found.items() if ms <= enough), key=lambda each: (each.window, found[each])
        )
        self.ms_per_token = found[self.size]

    def expected(self, acceptance: float) -> tuple[float, float]:
        """Milliseconds and tokens of an epoch of the chosen size, if drafted tokens stood with this chance."""
        return self._expected(self.size, [acceptance**position for position in range(1, 65)])[:2]

    def of_one(self, survival: list[float], goes_on: bool) -> tuple[float, float]:
        """Expected milliseconds and tokens of a single proposal that took no time to draft.

        Args:
            survival: by position, the chance that its tokens up to there stand.
            goes_on: the target decodes alone meanwhile.
        """
        alone_ms, pass_ms, length = self._costs.alone_ms(), self._costs.pass_ms(False), len(survival)
        said = max(1, ceil(self.rtt_ms / alone_ms)) if goes_on else 0
        alone = 1 + sum(survival[: said - 1]) if said else 0.0
        if said >= length:
            return alone * alone_ms, alone
        hits = survival[said - 1] if said else 1.0
        ms = pass_ms[length - said + 1] + (0.0 if goes_on else self.rtt_ms + self._costs.own.value)
        return alone * alone_ms + hits * ms, alone + hits + sum(survival[said:])

    def _expected(self, size: Size, survival: list[float]) -> tuple[float, float, bool]:
        """Expected milliseconds and tokens of an epoch, and whether a wider window would fill no faster."""
        window, length, goes_on = size
        costs, own_ms = self._costs, self._costs.own.value
        idle_ms, busy_ms = (length * step_ms + own_ms for step_ms in costs.step_ms)
        if not goes_on:
            return epoch(
                window, length, survival[:length], idle_ms, busy_ms, costs.pass_ms(window > 1), self.rtt_ms
            )
        alone_ms = costs.alone_ms(is_busy=True)
        late_ms = busy_ms / 2 if window > 1 else 0.0  # a refusal finds the edge amid a proposal
        said = left = 0
        for count in range(1, window + 1):
            said = ceil((self.rtt_ms + late_ms + count * busy_ms) / alone_ms)
            left = count * length - said
            if left > 0 or said >= len(survival):
                break
        said = min(said, len(survival))
        alone, hits = 1 + sum(survival[: said - 1]), survival[said - 1]
        if left <= 0:
            return alone * alone_ms, alone, False
        if window == 1:
            ms, tokens, is_full = costs.pass_ms(False)[left + 1], 1 + sum(survival[:left]), True
        else:
            ms, tokens, is_full = epoch(
                window, length, survival[:length], 0.0, busy_ms, costs.pass_ms(True), self.rtt_ms
            )
            ms -= self.rtt_ms + busy_ms / 2
            tokens -= length - left  # the first proposal is shorter by what the target has said of it
        return alone * alone_ms + hits * ms, alone + hits * tokens, is_full
