"""What a method is asked, and what a step of the target answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """One prompt to continue.

    Args:
        prompt_ids: the conversation so far, in the target's token ids.
        max_new_tokens: the budget, at least 1.
        stop_ids: a committed id among these ends the text; it counts as a token of it.
        seed: of everything random in this generation.
    """

    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    stop_ids: frozenset[int]
    seed: int = 0


@dataclass(frozen=True)
class Commit:
    """What one step of the target committed.

    Args:
        tokens: ids that now belong to the text, at least one.
        accepted: how many of them were drafted.
        finish_reason: `stop`, `length`, or `None` while the text goes on.
        verify_ms: time the target computed.
    """

    tokens: tuple[int, ...]
    accepted: int
    finish_reason: str | None
    verify_ms: float
