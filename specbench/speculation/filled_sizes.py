"""Window and draft length for a target that decodes alone while the edge drafts: the best by what was seen."""

from __future__ import annotations

from math import ceil, inf
from typing import NamedTuple

from specbench.results.records import Round
from specbench.speculation.draft_length import DraftLengths
from specbench.speculation.measured import Measured
from specbench.speculation.tree_sizes import DEPTHS, NODES, TreeSizes
from specbench.speculation.window_sizes import WORTH, epoch

LENGTHS = (1, 2, 3, 4, 5, 6, 8, 12, 16)
WINDOWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
START_LENGTH, START_WINDOW = 4, 8  # before anything was measured
FIRST_GUESS = 0.9  # acceptance of a token; high, because a refused draft costs little while the target streams
GUESS_WEIGHT = 4.0  # tokens judged that count as much as the first guess
WAITING_GUESS, WAITING_WEIGHT = 0.7, 1.0  # the same for a target that always waits, and so loses by a refusal
WAITS = 1.0  # tokens alone that a round trip may take where the target is to wait for a proposal
PROBE_NODES, PROBE_DEPTH = 24, 4  # of a tree that the first text drafts, to learn what trees take


class Size(NamedTuple):
    """How proposals are made, and whether the target decodes alone until the first one of an epoch arrives.

    Args:
        length: of a tree, tokens of its longest path.
        nodes: of a tree; 0 for chains.
    """

    window: int
    length: int
    goes_on: bool
    nodes: int = 0


class FilledSizes:
    """The size that makes the expected time per token smallest.

    An epoch begins where the draft was wrong. The first proposal behind that arrives after a round trip and the
    drafting. A target that waits for it loses that time, which `window_sizes.epoch` counts. One that goes on
    alone says n tokens meanwhile. The draft is at an end if it misses one of these, and the time was that of
    the target alone; else, with the chance Sₙ of n hits, what follows is an epoch whose first proposal is there
    already. So an epoch takes N · t + Sₙ · M for N + Sₙ · T tokens, with N = Σ Sᵢ for i < n, t a token alone,
    and M and T of an epoch without its round trip.

    A tree is a single proposal: with Sₙ the chance that one of its paths stands so far, and with what drafting
    and reading its nodes take.

    Args:
        costs: what things take.
        trees: draft and target take trees.
        streams: the target can decode alone meanwhile; else it waits for each proposal.

    Attributes:
        size: what was chosen last.
        ms_per_token: expected of it; unknown at first.
        probe: a tree that is to be drafted next, whatever was chosen, to learn what that takes.
    """

    ms_per_token = inf
    probe: Size | None = None

    def __init__(self, costs: Measured, trees: bool = False, streams: bool = True) -> None:
        self._costs, self._streams = costs, streams
        self._is_first = not costs.knows
        self._trees = TreeSizes() if trees else None
        guess = (GUESS_WEIGHT, FIRST_GUESS) if streams else (WAITING_WEIGHT, WAITING_GUESS)
        self._seen = DraftLengths("auto", *guess)
        self.size = Size(START_WINDOW if streams else 1, START_LENGTH, streams)

    @property
    def next(self) -> Size:
        """What is to be drafted next."""
        return self.probe or self.size

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

    def observe_tree(self, nodes: int, depth: int, stood: int) -> None:
        """How many tokens of a tree's path stood."""
        if self._trees:
            self._trees.observe(self._seen.everywhere, nodes, depth, stood)

    def choose(self) -> None:
        """Choose anew, where enough is known."""
        if not self._costs.knows:
            return
        waits = self._waits()
        found = self._chains(waits)
        if self._trees:
            acceptance = self._seen.everywhere
            trees = [Size(1, depth, goes_on, nodes) for depth in DEPTHS for nodes in NODES for goes_on in waits]
            expected = ((size, self._of_tree(size, acceptance)) for size in trees if size.nodes > size.length)
            found |= {size: ms / tokens for size, (ms, tokens, _) in expected}
        enough = min(found.values()) * (1 + WORTH)
        self.size = min(
            (size for size, ms in found.items() if ms <= enough), key=lambda each: (each.window, found[each])
        )
        self.ms_per_token = found[self.size]
        is_asked = self._trees is not None and self._is_first and self._costs.asks_for_tree
        self.probe = Size(1, PROBE_DEPTH, waits[0], PROBE_NODES) if is_asked else None

    def _waits(self) -> tuple[bool, ...]:
        """Whether the target may go on alone meanwhile, and whether it may wait."""
        if not self._streams:
            return (False,)
        if self.rtt_ms >= WAITS * self._costs.alone_ms():
            return (True,)
        return (True, False) if self._costs.idle_step else (False,)  # what waiting takes is to be known

    def _chains(self, kinds: tuple[bool, ...]) -> dict[Size, float]:
        """By size, the expected time of a token drafted in chains."""
        survival = self._seen.survival(64)
        found: dict[Size, float] = {}
        for length in LENGTHS:
            for window in WINDOWS if self._streams else (1,):
                is_full = True
                for goes_on in kinds:
                    size = Size(window, length, goes_on)
                    ms, tokens, full = self._expected(size, survival)
                    found[size] = ms / tokens
                    is_full &= full
                if is_full:
                    break
        return found

    def expected(self, acceptance: float) -> tuple[float, float]:
        """Milliseconds and tokens of an epoch of the chosen size, if drafted tokens stood with this chance."""
        if self.size.nodes:
            return self._of_tree(self.size, acceptance)[:2]
        return self._expected(self.size, [acceptance**position for position in range(1, 65)])[:2]

    def _of_tree(self, size: Size, acceptance: float) -> tuple[float, float, bool]:
        """As `_expected`."""
        assert self._trees
        _, depth, goes_on, nodes = size
        costs, survival = self._costs, self._trees.reach(acceptance, nodes, depth)
        draft_ms = costs.tree_ms(depth, nodes, goes_on) + costs.own.value
        pass_ms = costs.pass_ms(False)
        if not goes_on:
            return draft_ms + self.rtt_ms + pass_ms[nodes + 1], 1 + sum(survival), True
        alone_ms = costs.alone_ms(is_busy=True)
        said = max(1, ceil((self.rtt_ms + draft_ms) / alone_ms))
        alone = 1 + sum(survival[: said - 1])
        if said >= depth:
            return alone * alone_ms, alone, True
        left = nodes - nodes * said // depth  # about so many are behind what was said
        hits = survival[said - 1]
        return alone * alone_ms + hits * pass_ms[left + 1], alone + hits + sum(survival[said:]), True

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
        window, length, goes_on, _ = size
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
