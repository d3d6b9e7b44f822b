"""A draft model, and a look-up in the sequence beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, cast

from specbench.speculation.loop import DraftModel
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Request
from specbench.speculation.suffix import SuffixDrafter


class TreeDraftModel(DraftModel, Protocol):
    """A draft model that drafts chains, and trees where it is asked for one."""

    def propose_tree(self, draft_length: int, nodes: int) -> Proposal:
        """A tree of at most so many nodes, and paths of at most `draft_length`."""


class LookupDrafter:
    """A draft model, and a look-up in the sequence beside it, which may draft a round in its place.

    Args:
        lookup: `None` where the rule judges only what the model drew.
    """

    def __init__(self, model: DraftModel, lookup: SuffixDrafter | None) -> None:
        self._model = model
        self._lookup = lookup

    def begin(self, request: Request) -> None:
        """Read the prompt, twice."""
        if self._lookup:
            self._lookup.begin(request)
        self._model.begin(request)

    def found(self, draft_length: int) -> tuple[int, ...]:
        """What followed the sequence's longest suffix that occurred before; nothing is proposed."""
        return tuple(self._lookup.propose(draft_length).tokens) if self._lookup and draft_length > 0 else ()

    def propose(self, draft_length: int) -> Proposal:
        """What the model drafts."""
        return self._model.propose(draft_length)

    def propose_tree(self, draft_length: int, nodes: int) -> Proposal:
        """What the model drafts as a tree, where it does."""
        return cast("TreeDraftModel", self._model).propose_tree(draft_length, nodes)

    def propose_found(self, tokens: Sequence[int]) -> Proposal:
        """What was found, as the model's next proposal."""
        self._model.append(tokens)
        return self._model.propose(len(tokens))

    @property
    def uncommitted(self) -> int:
        """Tokens that are drafted and not judged."""
        return self._model.uncommitted

    def overtake(self, token: int) -> bool:
        """Take over a token that the target said by itself; whether what was drafted begins with it."""
        if self._lookup:
            self._lookup.commit((token,), 0)
        return self._model.overtake(token)

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """Take over what was committed, in both."""
        if self._lookup:
            self._lookup.commit(tokens, accepted)
        return self._model.commit(tokens, accepted)

    def decode_alone(self) -> Iterator[int]:
        """The model's own text, where the cloud is lost for good."""
        return self._model.decode_alone()

    def check(self) -> None:
        """The length of the model's cache."""
        self._model.check()
