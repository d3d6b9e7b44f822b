"""What every method promises of its rounds; a run holds each of them to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from specbench.api import Request
from specbench.speculation.round_checks import broken_promise


class BrokenContractError(Exception):
    """A method yielded something that no method may yield."""


def demand_kept(part: Any, request: Request, text: Sequence[int], has_ended: bool) -> str | None:
    """Refuse a round that breaks what every method promises.

    Args:
        text: the prompt, and what is committed before the round.
        has_ended: an earlier round ended it.

    Returns:
        Why the text ends with this round, `stop` or `length`; `None` where it goes on.

    Raises:
        BrokenContractError: saying which promise.
    """
    if broken := broken_promise(part):
        raise BrokenContractError(f"it {broken}")
    left = 0 if has_ended else len(request.prompt_ids) + request.max_new_tokens - len(text)
    over = len(part.tokens) - left
    if over > 0:
        raise BrokenContractError(f"it committed {over} tokens after a stop token or beyond its budget")
    kept, finish_reason = request.cut(text, part.tokens)
    if kept != part.tokens:
        raise BrokenContractError(
            "it committed tokens after a stop token"
            if kept[-1] in request.stop_ids
            else "it committed tokens after the end of a stop string (decoding.stop)"
        )
    return finish_reason
