"""The draft model's tree: static, or grown where the draft finds it likeliest to be accepted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import accumulate, groupby
from operator import mul
from typing import TYPE_CHECKING

import torch

from specbench.engine.base import Engine
from specbench.engine.finite import demand_finite
from specbench.profile import Options
from specbench.speculation.drafter import ModelDrafter
from specbench.speculation.proposal import DraftDistribution, Proposal
from specbench.speculation.sampling import probabilities

if TYPE_CHECKING:
    from specbench.speculation.request import Request


@dataclass(eq=False)
class Node:
    """A place in a tree, and the token there; the root is the committed text.

    Args:
        value: natural logarithm of the chance that the draft gives this place.
        read: which of the tree's tokens it is in the draft's cache; -1 where it is none of them.
        draft: what its children are drawn from, where the rule asks for that.
        choices: else the tokens of its children, the likeliest first.
    """

    token: int
    parent: Node | None
    depth: int
    value: float
    read: int = -1
    draft: DraftDistribution | None = None
    choices: Sequence[int] = ()

    def path(self) -> list[int]:
        """Tokens from behind the committed ones to this one."""
        return [] if self.parent is None else [*self.parent.path(), self.token]


class TreeDrafter(ModelDrafter):
    """Drafts a tree depth by depth, the nodes of a depth in one pass of the draft model.

    A node's places for children are ranked: the chance of the r-th is that of the draft's r-th likeliest token.
    For `greedy` that token stands there, for `coupled` the one with the r-th highest log p + noise, which is
    the target's choice wherever the two agree closely enough (Gumbel-top-k), and for `rejection` the r-th that
    is drawn without replacement. So which places a tree has never depends on the tokens that were drawn for
    them, and `rejection` stays lossless.

    Source: EAGLE-2 (Li et al. 2024) for growing by cumulated chance; SpecInfer (Miao et al. 2024) for static
    trees.

    Args:
        nodes: of a tree at most: those places that have the highest chance, cumulated along their paths. Of
            each depth the likeliest are gone on from, so many that the draft reads no more than `nodes`.
        branching: children of each node by depth, the first one those of the root; in place of `nodes`.
    """

    def __init__(
        self, engine: Engine, options: Options, nodes: int, branching: Sequence[int] | None = None
    ) -> None:
        super().__init__(engine, options)
        self._most_nodes, self._branching = nodes, branching
        self._spare = nodes if branching is None else sum(accumulate(branching, mul))

    def begin(self, request: Request) -> None:
        """Prefill the prompt."""
        super().begin(request)
        self._nodes: list[Node] = []
        self._read: list[Node] = []

    def propose(self, draft_length: int) -> Proposal:
        """A tree behind all that is committed, no path of it longer than `draft_length`."""
        return self._planted(draft_length, self._most_nodes)

    def _planted(self, draft_length: int, nodes: int) -> Proposal:
        """A tree of so many nodes at most, where it grows."""
        self._nodes, self._read = [], []
        if self._branching is not None:
            draft_length = min(draft_length, len(self._branching))
        if draft_length < 1:
            return Proposal()
        self._root = Node(-1, None, 0, 0.0)
        level = [self._root]
        logits = self._penalized()
        while True:
            level = [node for node in self._grown(level, logits, nodes) if node.token not in self._stop_ids]
            if not level or level[0].depth == draft_length:
                return self._proposal()
            if self._branching is None:
                level = nlargest(max(1, nodes // draft_length), level, key=lambda node: node.value)
            logits = self._read_level(level)

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """Take over what the target committed; of the tree, the cache keeps the accepted path."""
        path: list[Node] = []
        for token in tokens[:accepted]:
            above = path[-1] if path else self._root
            path.append(next(node for node in self._nodes if node.token == token and node.parent is above))
        self._keep(path)
        self._text += tokens
        self._committed = len(self._text)
        return 0

    def _keep(self, path: Sequence[Node]) -> None:
        """Of the tree, keep a path in the cache, and nothing else."""
        if self._read:
            self._session.keep([node.read for node in path if node.read >= 0])
        self._nodes, self._read = [], []

    def _grown(self, level: Sequence[Node], logits: torch.Tensor, nodes: int) -> list[Node]:
        """Add children to nodes of one depth; nodes that they outdo leave a tree that grows.

        Args:
            logits: behind each of the nodes, penalties applied, shape (nodes, vocabulary).
            nodes: of the whole tree at most, where it grows.
        """
        depth = level[0].depth + 1
        most = nodes if self._branching is None else self._branching[depth - 1]
        added = [
            Node(-1, node, depth, node.value + share)
            for node, shares in zip(level, self._shares(level, logits, most), strict=True)
            for share in shares
        ]
        found = [*self._nodes, *added]
        if self._branching is None and len(found) > most:
            # It keeps the order of equals, so that a node goes before its children.
            best = {id(node) for node in nlargest(most, found, key=lambda node: node.value)}
            found, added = ([node for node in listed if id(node) in best] for listed in (found, added))
        self._nodes = found
        self._fill(added)
        return added

    def _shares(self, level: Sequence[Node], logits: torch.Tensor, most: int) -> list[list[float]]:
        """Log chances of the likeliest children of each node, the likeliest first; remembers who they are."""
        if self._proposes == "sample":
            found = []
            for node, row in zip(level, probabilities(logits, self._options.decoding), strict=True):
                node.draft = DraftDistribution.quantised(row)
                weights = sorted(node.draft.weights.tolist(), reverse=True)
                found.append([math.log(weight / sum(weights)) for weight in weights[:most]])
            return found
        place = len(self._text) + level[0].depth
        scores = self._scorer.compared(logits, [place] * len(level)).double().log_softmax(-1)
        highest = scores.topk(min(most, scores.shape[1]))
        for node, ids in zip(level, highest.indices.tolist(), strict=True):
            node.choices = ids
        return [[share for share in row if share > -math.inf] for row in highest.values.tolist()]

    def _fill(self, added: Sequence[Node]) -> None:
        """Put a token in each new place, siblings in their order."""
        for parent, siblings in groupby(added, key=lambda node: node.parent):
            assert parent is not None
            left = parent.draft
            for rank, node in enumerate(siblings):
                if left is None:
                    node.token = parent.choices[rank]
                else:
                    node.token = left.draw(self._stream.uniform())
                    left = left.without(node.token)

    def _read_level(self, level: Sequence[Node]) -> torch.Tensor:
        """Logits behind nodes of one depth, penalties applied, shape (nodes, vocabulary)."""
        for place, node in enumerate(level, start=len(self._read)):
            node.read = place
        self._read += level
        parents = [node.parent.read for node in level if node.parent is not None]
        logits = self._session.extend([node.token for node in level], parents)
        demand_finite(logits, self._engine.role)
        rows = zip(level, logits.split(1), strict=True)
        return torch.cat([self._scorer.penalized(row, [*self._text, *node.path()]) for node, row in rows])

    def _proposal(self) -> Proposal:
        places = {id(node): place for place, node in enumerate(self._nodes)}
        parents = [node.parent for node in self._nodes if node.parent is not None]
        drafts = [parent.draft for parent in {id(parent): parent for parent in parents}.values()]
        return Proposal(
            tuple(node.token for node in self._nodes),
            tuple(draft for draft in drafts if draft is not None),
            parents=tuple(places.get(id(parent), -1) for parent in parents),
        )
