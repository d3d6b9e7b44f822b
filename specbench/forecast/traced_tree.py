"""Trees of the traced draft: the real tree drafter on distributions that a trace holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from specbench.errors import SpecbenchError
from specbench.forecast.traced_drafter import Text
from specbench.forecast.virtual import VirtualDrafter
from specbench.profile import Options
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Request
from specbench.stats.prices import Charge

if TYPE_CHECKING:
    import torch

    from specbench.speculation.chain_or_tree_drafter import ChainOrTreeDrafter
    from specbench.speculation.tree_drafter import TreeDrafter


class TracedTreeDrafter:
    """Proposes the tree that the real draft would, as far as a trace can tell.

    A trace holds the draft's likeliest tokens along the target's own sequence. On that path the tree is exact
    under `greedy`. Other branches are given the distribution that stands at the same position of the path:
    they are refused whatever they hold, but how likely they look decides which places a growing tree has.

    Args:
        charge: is told of each pass.
        make: makes the real drafter on an engine.

    Raises:
        SpecbenchError: the trace does not hold the draft's likeliest tokens.
    """

    def __init__(
        self, text: Text, charge: Callable[[Charge], object], make: Callable[[Any], TreeDrafter]
    ) -> None:
        if not text.likely:
            raise SpecbenchError(
                "the method drafts trees, and is replayed over traces of greedy verification that hold the "
                "draft's likeliest tokens",
                "make one with 'specbench trace', with the target in this process",
            )
        self._engine = _Engine(text, charge)
        self._known = self._engine.known
        self._numbers = {token: number for number, token in enumerate(self._known)}
        self._drafter = make(self._engine)

    def begin(self, request: Request) -> None:
        """Read the prompt."""
        stop_ids = frozenset(self._numbered(token for token in request.stop_ids))
        self._drafter.begin(replace(request, stop_ids=stop_ids))

    def propose(self, draft_length: int) -> Proposal:
        """A tree behind all that is committed."""
        return self._told(self._drafter.propose(draft_length))

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """Take over what was committed."""
        return self._drafter.commit(self._numbered(tokens), accepted)

    def check(self) -> None:
        """Nothing: there is no cache."""

    def _told(self, tree: Proposal) -> Proposal:
        return replace(tree, tokens=tuple(self._known[number] for number in tree.tokens))

    def _numbered(self, tokens: Any) -> list[int]:
        return [self._numbers[token] for token in tokens]


class TracedTrees(TracedTreeDrafter):
    """Trees beside chains that are drafted elsewhere, in one cache."""

    _drafter: ChainOrTreeDrafter

    def propose_tree(self, draft_length: int, nodes: int, cached: int) -> Proposal:
        """A tree behind all that is committed, where the cache holds so many tokens behind the prompt."""
        self._engine.opened.truncate(self._engine.opened.prompt + cached)
        return self._told(self._drafter.propose_tree(draft_length, nodes))

    @property
    def cached(self) -> int:
        """Tokens behind the prompt that the cache holds."""
        return self._engine.opened.length - self._engine.opened.prompt

    @property
    def uncommitted(self) -> int:
        """Nodes that are drafted and not judged."""
        return self._drafter.uncommitted

    def overtake(self, token: int) -> bool:
        """Take over a token that the target said by itself; whether the tree begins with it."""
        return self._drafter.overtake(self._numbers[token])


class TracedChainOrTreeDrafter(VirtualDrafter):
    """The traced draft, drafting chains, and a tree where it is asked for one."""

    def __init__(self, text: Text, charge: Callable[[Charge], object], options: Options) -> None:
        from specbench.speculation.chain_or_tree_drafter import ChainOrTreeDrafter

        super().__init__(text, charge)
        self._trees = TracedTrees(text, charge, lambda engine: ChainOrTreeDrafter(engine, options))

    def begin(self, request: Request) -> None:
        """Read the prompt."""
        super().begin(request)
        self._trees.begin(request)

    def propose_tree(self, draft_length: int, nodes: int) -> Proposal:
        """A tree behind all that is committed."""
        return self._trees.propose_tree(draft_length, nodes, self._cached)

    @property
    def uncommitted(self) -> int:
        """Tokens that are drafted and not judged."""
        return self._trees.uncommitted or super().uncommitted

    def overtake(self, token: int) -> bool:
        """As of `ChainOrTreeDrafter`."""
        if self._trees.uncommitted:
            self._committed += 1
            is_met = self._trees.overtake(token)
            self._cached = self._trees.cached
        elif is_met := super().overtake(token):  # else it has committed the token
            self._trees.commit((token,), 0)
        return is_met

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """Take over what was committed."""
        if not self._trees.uncommitted:
            self._trees.commit(tokens, 0)
            return super().commit(tokens, accepted)
        self._committed += len(tokens)
        wasted = self._trees.commit(tokens, accepted)
        self._cached = self._trees.cached
        return wasted

    def _prefill(self, prompt_tokens: int) -> None:
        """Nothing: that is charged for with the trees."""


class _Engine:
    """The draft of a trace, as an engine whose ids are those that occur in a text.

    Attributes:
        opened: the newest sequence.
    """

    role = "edge"
    opened: _Session

    def __init__(self, text: Text, charge: Callable[[Charge], object]) -> None:
        self.text, self.charge = text, charge
        self.known = sorted({*text.ids, *(token for ids, _ in text.likely for token in ids)})

    def session(self, capacity: int) -> _Session:
        """A sequence that has not begun."""
        self.opened = _Session(self)
        return self.opened


class _Session:
    """Counts tokens as a cache does, and looks distributions up."""

    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._numbers = {token: number for number, token in enumerate(engine.known)}
        self.prompt = self.length = 0
        self._depths: list[int] = []

    def prefill(self, token_ids: Sequence[int]) -> None:
        """Read the prompt."""
        self.prompt = self.length = len(token_ids)
        self._engine.charge(Charge("draft prefill", self.prompt))

    def extend(self, token_ids: Sequence[int], parents: Sequence[int] | None = None) -> torch.Tensor:
        """Read a chain, or nodes of a tree; see `KVSession.extend`. Of a chain, the last row alone counts."""
        import torch

        self._engine.charge(Charge("draft", 1, len(token_ids)))
        if parents is None:
            self.length += len(token_ids)
            return torch.stack([self._row(self.length - self.prompt)])
        new = len(self._depths)
        for parent in parents:
            self._depths.append(1 if parent < 0 else self._depths[parent] + 1)
        return torch.stack([self._row(self.length - self.prompt + depth) for depth in self._depths[new:]])

    def keep(self, path: Sequence[int]) -> None:
        """Keep a path of the tree."""
        self.truncate(self.length)
        self.length += len(path)

    def truncate(self, length: int) -> None:
        """Forget what is behind."""
        self._depths, self.length = [], length

    def _row(self, position: int) -> torch.Tensor:
        import torch

        row = torch.full((len(self._engine.known),), -torch.inf, dtype=torch.float64)
        likely = self._engine.text.likely
        # Behind the end of the text nothing stands, whatever is drafted there.
        ids, logs = likely[min(position, len(likely) - 1)]
        row[[self._numbers[token] for token in ids]] = torch.tensor(logs, dtype=torch.float64)
        return row
