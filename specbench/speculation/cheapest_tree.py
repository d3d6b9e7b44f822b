"""Trees of what a table holds, which names successors in an order and no chances."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from typing import TypeVar

from specbench.speculation.proposal import Proposal

PlaceT = TypeVar("PlaceT")


def cheapest_tree(
    root: PlaceT, successors: Callable[[PlaceT], Iterable[tuple[int, PlaceT]]], nodes: int, depth: int
) -> Proposal:
    """The tree of the cheapest nodes, where the successor of rank r costs r more than its parent.

    It is deep along first choices and wide near its root.

    Args:
        root: the place behind the committed tokens.
        successors: of a place: tokens that may follow, the likeliest first, and the places that they lead to.
        nodes: tokens of the tree, at most.
        depth: tokens of a path, at most.

    Source: the fixed tree of token recycling (Luo et al. 2024) has that shape.
    """

    def behind(place: PlaceT, parent: int, cost: int, above: int) -> list[tuple[int, int, int, int, PlaceT]]:
        found = enumerate(successors(place), start=1)
        return [(cost + rank, above + 1, parent, token, led_to) for rank, (token, led_to) in found]

    tokens: list[int] = []
    parents: list[int] = []
    waiting = behind(root, -1, 0, 0) if depth > 0 else []
    heapify(waiting)
    while waiting and len(tokens) < nodes:
        # Nodes of one parent differ in cost, so that no two places are ever compared.
        cost, level, parent, token, place = heappop(waiting)
        tokens.append(token)
        parents.append(parent)
        if level < depth:
            for node in behind(place, len(tokens) - 1, cost, level):
                heappush(waiting, node)
    return Proposal(tuple(tokens), parents=tuple(parents) if tokens else None)
