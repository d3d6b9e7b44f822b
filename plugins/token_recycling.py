"""Token recycling: the draft is a tree of the target's own earlier runners-up, from a table of successors."""

from __future__ import annotations

from collections.abc import Sequence
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
    cheapest_tree,
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

    Every token that the target reads renews its row, those that it refuses too.
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
        tree = cheapest_tree(self._judged[0], self._behind, self._nodes, draft_length)
        self._judged[1:] = tree.tokens
        return tree

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """Renew the rows of all tokens that the target has judged."""
        self._successors.update(zip(self._judged, self.target.top_ids, strict=True))
        self._judged = [tokens[-1]]
        return 0

    def check(self) -> None:
        """Nothing: the table is no part of the text."""

    def _behind(self, token: int) -> list[tuple[int, int]]:
        return [(found, found) for found in self._successors.get(token, ())[: self._branching]]


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
