"""The draft model, drafting chains, and a tree where it is asked for one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from specbench.engine.base import Engine
from specbench.profile import Options
from specbench.speculation.drafter import ModelDrafter
from specbench.speculation.proposal import MOST_NODES, Proposal
from specbench.speculation.tree_drafter import Node, TreeDrafter

if TYPE_CHECKING:
    from specbench.speculation.request import Request


class ChainOrTreeDrafter(TreeDrafter):
    """Drafts chains as `ModelDrafter` does, and trees as `TreeDrafter`, on one text and in one cache.

    A tree may be overtaken by what the target says alone. Then the draft's cache keeps the whole tree until the
    rest of it is judged, refuted or overtaken too.
    """

    def __init__(self, engine: Engine, options: Options) -> None:
        super().__init__(engine, options, MOST_NODES)

    def begin(self, request: Request) -> None:
        """Prefill the prompt."""
        super().begin(request)
        self._said: list[Node] = []

    def propose(self, draft_length: int) -> Proposal:
        """A chain, as of `ModelDrafter`."""
        return ModelDrafter.propose(self, draft_length)

    def propose_tree(self, draft_length: int, nodes: int) -> Proposal:
        """A tree of at most so many nodes behind all that is committed; nothing else may be under way."""
        return self._planted(draft_length, nodes)

    @property
    def uncommitted(self) -> int:
        """Tokens that are drafted and not judged, all nodes of a tree among them."""
        return len(self._nodes) or super().uncommitted

    def overtake(self, token: int) -> bool:
        """Take over a token that the target said by itself; whether a path of the tree begins with it."""
        if not self._nodes:
            return super().overtake(token)
        met = next((node for node in self._nodes if node.parent is self._root and node.token == token), None)
        if met is None:
            self.commit((token,), 0)
            return False
        self._said.append(met)
        self._root, below = met, {id(met)}
        self._text.append(token)
        self._committed += 1
        left = []
        for node in self._nodes:
            if id(node.parent) in below:
                below.add(id(node))
                left.append(node)
        self._nodes = left
        if not left:
            self._keep([])
        return True

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """Take over what the target committed, of a chain or of a tree."""
        return super().commit(tokens, accepted) if self._nodes else ModelDrafter.commit(self, tokens, accepted)

    def decode_alone(self) -> Iterator[int]:
        """Decode without a target, behind all that is committed."""
        self._nodes, self._said = [], []
        return super().decode_alone()

    def check(self) -> None:
        """As of `ModelDrafter`, where the cache holds no tree that is under way."""
        if not self._nodes:
            super().check()

    def _keep(self, path: Sequence[Node]) -> None:
        super()._keep([*self._said, *path])
        self._said = []
