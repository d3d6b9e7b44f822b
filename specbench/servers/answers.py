"""What a server said, and what it can be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Token: TypeAlias = int | str
"""An id; or the text of one token, where a server tells no ids."""
Prompt: TypeAlias = tuple[int, ...] | str


@dataclass(frozen=True)
class Part:
    """One event of a stream.

    Args:
        at_ms: when it came, since the request was sent.
        tokens: how many tokens it brought; `None` where the server does not say.
        pass_number: the server's pass that made them; parts of one pass share it. `None` where it is unknown.
        accepted: drafted tokens accepted so far, as the server counts.
    """

    at_ms: float
    tokens: int | None
    pass_number: int | None = None
    accepted: int | None = None


@dataclass(frozen=True)
class Completion:
    """A whole answer.

    Args:
        tokens: what was said, the stop token included where the server tells it; `None`: text alone is known.
        finish_reason: `stop`, `length`, or the server's own word.
        top: the most likely tokens in the place of each said token, with their log-probabilities.
        drafted: tokens that the server says it drafted, and `accepted` of them; `passes` is its number of
            verifications. `None` where it does not say.
        parts: how it came, where it was streamed.
    """

    text: str
    finish_reason: str | None
    tokens: tuple[Token, ...] | None = None
    top: tuple[dict[Token, float], ...] | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    drafted: int | None = None
    accepted: int | None = None
    passes: int | None = None
    draft_limit: int | None = None
    total_ms: float = 0.0
    parts: tuple[Part, ...] = ()

    @property
    def said(self) -> int | None:
        """How many tokens were said."""
        return len(self.tokens) if self.tokens is not None else self.completion_tokens


@dataclass(frozen=True)
class Facts:
    """What a server is, and what it can be asked.

    Args:
        kind: of its interface, as of `--server`.
        model: what it calls its model.
        speaks_ids: prompts are sent, and answers told, as token ids.
        tops: log-probabilities of how many tokens a place can be asked for; 0 where they are not given.
        experimental: this interface was never tried on a real server by specbench's authors.
        missing: what it cannot give, and what that weakens.
    """

    url: str
    kind: str
    model: str
    version: str | None
    speaks_ids: bool
    tops: int
    experimental: bool
    missing: tuple[str, ...] = ()
