"""What a method is asked, and a verification in flight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from specbench.results.records import Round


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


class Pending(Protocol):
    """A verification under way."""

    @property
    def is_done(self) -> bool:
        """Whether `result` would return at once."""

    def result(self) -> Round:
        """Wait for the verification, and commit what it accepted. To be called once."""
