"""Proposals under way to a target that decodes alone meanwhile: which of them are over."""

from __future__ import annotations

from collections import deque
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


def take_verdict(in_flight: deque[UnderWayT], commit: Round) -> tuple[UnderWayT, list[UnderWayT]]:
    """Take the oldest proposal out, on which this is the verdict, and those that it makes void."""
    oldest = in_flight.popleft()
    if oldest.proposal.stands(commit):
        return oldest, []
    return oldest, _ended(in_flight, len(in_flight))


def take_overtaken(in_flight: deque[UnderWayT], token: int) -> tuple[bool, list[UnderWayT]]:
    """Hold what the target says alone against what is in flight; take out what is over.

    Returns:
        Whether it refutes a proposal, which ends an epoch; and the proposals that are over. The token that a
        proposal begins with is taken from it.
    """
    if not in_flight:
        return False, []
    oldest = in_flight[0]
    if tuple(oldest.proposal.tokens[:1]) != (token,):
        return len(oldest.proposal) > 0, _ended(in_flight, len(in_flight))
    oldest.proposal = oldest.proposal.behind(1)
    left = (index for index, each in enumerate(in_flight) if each.proposal.tokens)
    return False, _ended(in_flight, next(left, len(in_flight)))


def _ended(in_flight: deque[UnderWayT], count: int) -> list[UnderWayT]:
    found = [in_flight.popleft() for _ in range(count)]
    for each in found:
        each.is_over = True
    return found
