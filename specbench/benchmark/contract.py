"""What every method promises of its rounds; a run holds each of them to it."""

from __future__ import annotations

from typing import Any

from specbench.speculation.round_checks import broken_promise


class BrokenContractError(Exception):
    """A method yielded something that no method may yield."""


def demand_kept(part: Any, left: int, stop_ids: frozenset[int]) -> None:
    """Refuse a round that breaks what every method promises; `left` is the budget before it.

    Raises:
        BrokenContractError: saying which promise.
    """
    if broken := broken_promise(part):
        raise BrokenContractError(f"it {broken}")
    over = len(part.tokens) - left
    if over > 0:
        raise BrokenContractError(f"it committed {over} tokens after a stop token or beyond its budget")
    if not stop_ids.isdisjoint(part.tokens[:-1]):
        raise BrokenContractError("it committed tokens after a stop token")
