"""What every method promises of its rounds; a run holds each of them to it."""

from __future__ import annotations

from specbench.api import Round


class BrokenContractError(Exception):
    """A method yielded something that no method may yield."""


def demand_kept(part: Round, left: int, stop_ids: frozenset[int]) -> None:
    """Refuse a round that breaks what every method promises; `left` is the budget behind it.

    Raises:
        BrokenContractError: saying which promise.
    """
    if not part.tokens:
        raise BrokenContractError("it yielded a round without tokens")
    if not all(type(token) is int for token in part.tokens):
        raise BrokenContractError("it yielded token ids that are no Python ints")
    if left < 0:
        raise BrokenContractError(f"it committed {-left} tokens behind a stop token or beyond its budget")
    if not stop_ids.isdisjoint(part.tokens[:-1]):
        raise BrokenContractError("it committed tokens behind a stop token")
    if (part.accepted or 0) > (part.drafted or 0):
        raise BrokenContractError(f"it accepted {part.accepted} of {part.drafted} drafted tokens")
    if part.depth is not None and not (part.accepted or 0) <= part.depth <= (part.drafted or 0):
        raise BrokenContractError(
            f"it accepted {part.accepted} of {part.drafted} drafted tokens, and its depth is {part.depth}"
        )
