"""How deep the paths of a drafted tree are expected to stand, by its size."""

from __future__ import annotations

from functools import lru_cache
from heapq import heappop, heappush

from specbench.speculation.outcomes import MISSED
from specbench.speculation.proposal import MOST_NODES

NODES = (4, 8, 12, 16, 24, 32, 48, MOST_NODES)
DEPTHS = (2, 3, 4, 5, 6, 8, 10)
GRAIN = 50  # of acceptance: trees are weighed at so many values between 0 and 1
GUESS_WEIGHT = 8.0  # tokens foretold that count as much as the first guess of how many of them stand
CHILDREN = 24  # of a node at most


class TreeSizes:
    """What trees of a draft bring, by its acceptance and by what became of the trees of this sequence.

    The draft's first choice is right with the chance α, and where it is not, its next n choices are all wrong
    with the chance (n + 1)**-MISSED, as of `LikelyOutcomes`. The tree of the likeliest nodes by these chances
    is expected to stand so deep as they sum up to. A real one follows the draft's own chances, which differ
    from place to place, and is right more or less often: so what stood is held against what was foretold.
    """

    def __init__(self) -> None:
        self._foretold = self._stood = GUESS_WEIGHT

    def reach(self, acceptance: float, nodes: int, depth: int) -> list[float]:
        """By depth, the chance that a path of a tree stands as far."""
        share = self._stood / self._foretold
        return [min(1.0, share * chance) for chance in _reach(round(acceptance * GRAIN), nodes, depth)]

    def observe(self, acceptance: float, nodes: int, depth: int, stood: int) -> None:
        """What became of a tree.

        Args:
            acceptance: as it is known now.
            stood: tokens of the path that was right.
        """
        self._foretold += sum(_reach(round(acceptance * GRAIN), nodes, depth))
        self._stood += stood


@lru_cache(maxsize=8192)
def _reach(grains: int, nodes: int, depth: int) -> tuple[float, ...]:
    acceptance = grains / GRAIN
    shares = [acceptance]
    shares += [
        (1 - acceptance) * (rank**-MISSED - (rank + 1) ** -MISSED) for rank in range(1, min(CHILDREN, nodes))
    ]
    found = [0.0] * depth
    waiting = [(-acceptance, 1.0, 0, 0)]  # a node: less its chance, its parent's, its depth and its rank
    for _ in range(nodes):
        chance, parent, level, rank = heappop(waiting)
        found[level] -= chance
        if rank + 1 < len(shares):
            heappush(waiting, (-parent * shares[rank + 1], parent, level, rank + 1))
        if level + 1 < depth:
            heappush(waiting, (chance * acceptance, -chance, level + 1, 0))
        if not waiting:
            break
    return tuple(found)
