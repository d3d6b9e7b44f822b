"""What a server can be asked, and what it says."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

Token: TypeAlias = int | str
"""An id; or the text of one token, where a server tells no ids."""
Prompt: TypeAlias = tuple[int, ...] | str


@dataclass(frozen=True)
class Question:
    """What a server is to go on with, and how far.

    Args:
        most: tokens of the answer, at most.
        temperature: 0 is greedy.
        seed: of the samples.
        top: how many of the most likely tokens are told at each place.
        salt: a name under which the server keeps what it has read of this text. It takes nothing from its
            prefix cache that has another name, as far as it knows names; `None` takes whatever is there.
        stop_ids: what ends the answer besides its length; `None` leaves that to the server.
    """

    prompt: Prompt
    most: int
    temperature: float = 0.0
    seed: int = 0
    top: int = 0
    salt: str | None = None
    stop_ids: frozenset[int] | None = None

    @property
    def fresh(self) -> Question:
        """The same with nothing taken from the prefix cache."""
        return replace(self, salt=secrets.token_hex(8))

    @property
    def as_json(self) -> str | list[int]:
        """The prompt as it is sent."""
        return self.prompt if isinstance(self.prompt, str) else list(self.prompt)

    def behind(self, tokens: Iterable[Token], most: int = 1) -> Question:
        """The same with what was said behind the prompt."""
        if isinstance(self.prompt, str):
            return replace(self, prompt=self.prompt + "".join(map(str, tokens)), most=most)
        return replace(self, prompt=(*self.prompt, *map(int, tokens)), most=most)


@dataclass(frozen=True)
class Part:
    """One event of a stream.

    Args:
        at_ms: when it came, since the request was sent.
        tokens: what it brought; `None` where the server tells text alone.
        clock_ms: the server's own clock, at the end of the pass that made it; parts of one pass share it.
        accepted: drafted tokens accepted so far, as the server counts.
        bytes_up: of the request, with its first part.
    """

    at_ms: float
    text: str
    tokens: tuple[Token, ...] | None
    clock_ms: float | None = None
    accepted: int | None = None
    bytes_up: int = 0
    bytes_down: int = 0

    @property
    def size(self) -> int | None:
        """How many tokens it brought, where that is known."""
        return None if self.tokens is None else len(self.tokens)


@dataclass
class Completion:
    """An answer, filled while it is read.

    Args:
        tokens: what was said, the stop token included where the server tells it; `None`: text alone is known.
        finish_reason: `stop`, `length`, or the server's own word.
        top: the most likely tokens in the place of each said token, with their log-probabilities.
        drafted: tokens that the server says it drafted, and `accepted` of them; `passes` is its number of
            verifications. `None` where it does not say.
        clock_ms: as of `Part`, so far.
        parts: how it came, where it was streamed.
    """

    text: str = ""
    finish_reason: str | None = None
    tokens: tuple[Token, ...] | None = ()
    top: tuple[dict[Token, float], ...] | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    drafted: int | None = None
    accepted: int | None = None
    passes: int | None = None
    draft_limit: int | None = None
    clock_ms: float | None = None
    total_ms: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    parts: list[Part] = field(default_factory=list)

    @property
    def said(self) -> int | None:
        """How many tokens were said."""
        return len(self.tokens) if self.tokens is not None else self.completion_tokens

    def add(self, text: str, tokens: tuple[Token, ...] | None) -> None:
        """Something more was said; where once no tokens were told, none are known."""
        self.text += text
        self.tokens = None if self.tokens is None or tokens is None else (*self.tokens, *tokens)


@dataclass(frozen=True)
class Judged:
    """What a server would have said itself in the place of each drafted token, and behind the last.

    Args:
        own: an id for each drafted token and one more.
        log_probabilities: of the drafted tokens, where the server tells them.
        read: tokens that the server read for it.
    """

    own: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    read: int
    bytes_up: int
    bytes_down: int


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
