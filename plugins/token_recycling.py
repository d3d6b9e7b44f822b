"""Token recycling: the draft is a tree of the target's own earlier runners-up, from a table of successors."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Annotated

from pydantic import Field

from specbench.api import (
    Drafter,
    EdgeModel,
    Method,
    Options,
    Part,
    Proposal,
    Request,
    SpeculativeMethod,
    Target,
    hookimpl,
)

TOP_K = 8  # successors that the table keeps of a token, as in the paper


class Settings(Part):
    """The options of `token_recycling`."""

    nodes: Annotated[int, Field(ge=1, le=63, description="Drafted tokens in a tree, at most")] = 16
    branching: Annotated[
        int, Field(ge=1, le=TOP_K, description="Drafted successors of a token, the target's likeliest first")
    ] = 4


class RecyclingDrafter(Drafter):
    """Looks up what the target found likeliest behind each token when it last read that token.

    The tree is the cheapest one, where the successor of rank r costs r more than its parent: it is deep along
    first choices and wide near its root, as the paper's fixed tree is. Every token that the target reads renews
    its row, those that it refuses too.
    """

    target: Target

    def __init__(self, nodes: int, branching: int) -> None:
        self._nodes = nodes
        self._branching = branching

    def begin(self, request: Request) -> None:
        """Empty the table; of a prompt the target makes logits behind the last token alone."""
        self._successors: dict[int, tuple[int, ...]] = {}
        self._judged: list[int] = [request.prompt_ids[-1]]

    def propose(self, draft_length: int) -> Proposal:
        """The tree behind the last token, of at most `draft_length` levels."""
        tokens: list[int] = []
        parents: list[int] = []
        waiting = [node for node in self._behind(self._judged[0], -1, 0, 0) if draft_length]
        heapify(waiting)
        while waiting and len(tokens) < self._nodes:
            cost, depth, parent, token = heappop(waiting)
            tokens.append(token)
            parents.append(parent)
            if depth < draft_length:
                for node in self._behind(token, len(tokens) - 1, cost, depth):
                    heappush(waiting, node)
        self._judged[1:] = tokens
        return Proposal(tuple(tokens), parents=tuple(parents) if tokens else None)

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """Renew the rows of all tokens that the target has judged."""
        self._successors.update(zip(self._judged, self.target.top_ids, strict=True))
        self._judged = [tokens[-1]]
        return 0

    def check(self) -> None:
        """Nothing: the table is no part of the text."""

    def _behind(self, token: int, parent: int, cost: int, depth: int) -> list[tuple[int, int, int, int]]:
        """Successors of a token as what they cost, their depth, their parent's index, and their id."""
        successors = self._successors.get(token, ())[: self._branching]
        return [(cost + rank, depth + 1, parent, found) for rank, found in enumerate(successors, start=1)]


class TokenRecycling(SpeculativeMethod):
    """Luo et al. 2024, "Turning Trash into Treasure: Accelerating Inference of LLMs with Token Recycling".

    The paper keeps its table from one prompt to the next; here it begins empty with each, as all methods do.
    """

    name = "token_recycling"
    summary = "the cloud verifies a tree of what it found likely before: no draft model"
    roles = ("cloud",)
    api_version = 4
    settings = Settings
    drafts_trees = True
    target_top_k = TOP_K
    rules = frozenset({"greedy", "coupled"})
    rules_reason = ", whose tree has no distribution"

    def drafter(self, edge: EdgeModel, options: Options) -> Drafter:
        """The table; no model is loaded."""
        own = self.own(options, Settings)
        return RecyclingDrafter(own.nodes, own.branching)


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return TokenRecycling()
