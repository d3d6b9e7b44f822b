"""Proposals under way to a target that decodes alone meanwhile: which of them are over."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol, TypeVar

from specbench.results.records import Round
from specbench.speculation.proposal import Proposal


class UnderWay(Protocol):
    """A proposal that was sent.

    Attributes:
        proposal: what of it is still to be judged.
        is_over: it will have no verdict.
    """

    proposal: Proposal
    is_over: bool


UnderWayT = TypeVar("UnderWayT", bound=UnderWay)


def left_of(drafts: Sequence[Proposal], said: Sequence[int], is_streaming: bool) -> list[Proposal] | None:
    """What is to be judged of proposals that go on from each other, where the target has said these tokens.

    Args:
        is_streaming: the target decodes alone until something has come further than it.

    Returns:
        Nothing where the target has come as far, and `None` where it has said something else.
    """
    for index, draft in enumerate(drafts):
        left = draft.behind(said)
        if left is None:
            return None
        if left.tokens or not is_streaming:
            return [left, *drafts[index + 1 :]]
        said = said[len(draft) :]
    return []


def take_verdict(in_flight: deque[UnderWayT], commit: Round) -> tuple[UnderWayT, list[UnderWayT]]:
    """Take the oldest proposal out, on which this is the verdict, and those that it makes void."""
    oldest = in_flight.popleft()
    if oldest.proposal.stands(commit):
        return oldest, []
    return oldest, _ended(in_flight, len(in_flight))


def take_overtaken(in_flight: deque[UnderWayT], token: int) -> tuple[bool, list[UnderWayT]]:
    """Hold what the target says alone against what is in flight; take out what is over.

    Returns:
        Whether it refutes a proposal, which ends an epoch; and the proposals that are over. Of the oldest one
        what is behind the token is left.
    """
    if not in_flight:
        return False, []
    left = in_flight[0].proposal.behind((token,))
    if left is None:
        return True, _ended(in_flight, len(in_flight))
    in_flight[0].proposal = left
    ahead = (index for index, each in enumerate(in_flight) if each.proposal.tokens)
    return False, _ended(in_flight, next(ahead, len(in_flight)))


def _ended(in_flight: deque[UnderWayT], count: int) -> list[UnderWayT]:
    found = [in_flight.popleft() for _ in range(count)]
    for each in found:
        each.is_over = True
    return found
