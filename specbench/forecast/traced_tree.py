"""Trees of the traced draft: the real tree drafter on distributions that a trace holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from specbench.errors import SpecbenchError
from specbench.forecast.traced_drafter import Text
from specbench.profile import Options
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Request
from specbench.stats.prices import Charge

if TYPE_CHECKING:
    import torch


class TracedTreeDrafter:
    """Proposes the tree that the real draft would, as far as a trace can tell.

    A trace holds the draft's likeliest tokens along the target's own sequence. On that path the tree is exact
    under `greedy`. Other branches are given the distribution that stands at the same position of the path:
    they are refused whatever they hold, but how likely they look decides which places a growing tree has.

    Args:
        charge: is told of each pass.

    Raises:
        SpecbenchError: the trace does not hold the draft's likeliest tokens.
    """

    def __init__(
        self,
        text: Text,
        charge: Callable[[Charge], object],
        options: Options,
        nodes: int,
        branching: Sequence[int] | None,
    ) -> None:
        from specbench.speculation.tree_drafter import TreeDrafter

        if not text.likely:
            raise SpecbenchError(
                "the method drafts trees, and is replayed over traces of greedy verification that hold the "
                "draft's likeliest tokens",
                "make one with 'specbench trace', with the target in this process",
            )
        engine: Any = _Engine(text, charge)
        self._known = engine.known
        self._numbers = {token: number for number, token in enumerate(self._known)}
        self._drafter = TreeDrafter(engine, options, nodes, branching)

    def begin(self, request: Request) -> None:
        """Read the prompt."""
        stop_ids = frozenset(self._numbered(token for token in request.stop_ids))
        self._drafter.begin(replace(request, stop_ids=stop_ids))

    def propose(self, draft_length: int) -> Proposal:
        """A tree behind all that is committed."""
        tree = self._drafter.propose(draft_length)
        return replace(tree, tokens=tuple(self._known[number] for number in tree.tokens))

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """Take over what was committed."""
        return self._drafter.commit(self._numbered(tokens), accepted)

    def check(self) -> None:
        """Nothing: there is no cache."""

    def _numbered(self, tokens: Any) -> list[int]:
        return [self._numbers[token] for token in tokens]


class _Engine:
    """The draft of a trace, as an engine whose ids are those that occur in a text."""

    role = "edge"

    def __init__(self, text: Text, charge: Callable[[Charge], object]) -> None:
        self.text, self.charge = text, charge
        self.known = sorted({*text.ids, *(token for ids, _ in text.likely for token in ids)})

    def session(self, capacity: int) -> _Session:
        """A sequence that has not begun."""
        return _Session(self)


class _Session:
    """Counts tokens as a cache does, and looks distributions up."""

    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._numbers = {token: number for number, token in enumerate(engine.known)}
        self._prompt = self.length = 0
        self._depths: list[int] = []

    def prefill(self, token_ids: Sequence[int]) -> None:
        """Read the prompt."""
        self._prompt = self.length = len(token_ids)
        self._engine.charge(Charge("draft prefill", self._prompt))

    def extend(self, token_ids: Sequence[int], parents: Sequence[int] | None = None) -> torch.Tensor:
        """Read a chain, or nodes of a tree; see `KVSession.extend`. Of a chain, the last row alone counts."""
        import torch

        self._engine.charge(Charge("draft", 1, len(token_ids)))
        if parents is None:
            self.length += len(token_ids)
            return torch.stack([self._row(self.length - self._prompt)])
        new = len(self._depths)
        for parent in parents:
            self._depths.append(1 if parent < 0 else self._depths[parent] + 1)
        return torch.stack([self._row(self.length - self._prompt + depth) for depth in self._depths[new:]])

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
