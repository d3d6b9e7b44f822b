"""What every server can be asked, whatever its interface."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from specbench.clock import now_ms
from specbench.servers.answers import Completion, Facts, Part, Prompt
from specbench.servers.client import Client

NO_IDS = "it tells no token ids, so texts are compared"
NO_TOPS = "it gives no log-probabilities, so no difference can be proven"


class Server(ABC):
    """One server, through one interface.

    Args:
        url: its address, or what stands for one.
        model: which of its models.
    """

    kind: str
    experimental = False
    tops = 0
    speaks_ids = False
    counts = ""
    """How its acceptance figures become ours; empty where it reports none."""

    is_timed = True
    """Whether its times are those of a server."""

    def __init__(self, url: str, model: str = "") -> None:
        self.url, self.model = url, model
        self.version: str | None = None

    @property
    def retries(self) -> int:
        """How many requests were sent again after a refusal."""
        return 0

    @property
    def facts(self) -> Facts:
        """What it is, once `look` has asked it."""
        missing = (() if self.speaks_ids else (NO_IDS,)) + (() if self.tops else (NO_TOPS,))
        who = self.url, self.kind, self.model, self.version
        return Facts(*who, self.speaks_ids, self.tops, self.experimental, missing)

    @abstractmethod
    def complete(
        self,
        prompt: Prompt,
        most: int,
        temperature: float = 0.0,
        seed: int = 0,
        top: int = 0,
        fresh: bool = False,
    ) -> Completion:
        """At most `most` tokens behind a prompt.

        Args:
            top: how many of the most likely tokens are told at each place.
            fresh: nothing is to be taken from its prefix cache, where that can be asked.
        """

    @abstractmethod
    def stream(self, prompt: Prompt, most: int) -> Completion:
        """The same at temperature 0, streamed, with the time of each part."""

    def tokenized(self, text: str) -> tuple[int, ...] | None:
        """Its ids of a text, without a first token of its own; `None` where it does not say."""
        return None

    def templated(self, question: str) -> tuple[int, ...] | None:
        """Its ids of a question in its chat template; `None` where it does not say."""
        return None


class HttpServer(Server):
    """A server at an address.

    Args:
        model: which of its models; `None` takes its first.
    """

    def __init__(self, client: Client, model: str | None = None) -> None:
        super().__init__(client.url, model or "")
        self.client = client

    @property
    def retries(self) -> int:
        """As of `Server`."""
        return self.client.retries

    def another(self) -> HttpServer:
        """The same over a connection of its own."""
        other = copy.copy(self)
        other.client = self.client.another()
        return other

    @abstractmethod
    def look(self) -> None:
        """Ask who it is.

        Raises:
            SpecbenchError: it is not of this kind.
        """


class Stopwatch:
    """Collects a streamed answer."""

    def __init__(self) -> None:
        self.started_ms = now_ms()
        self.parts: list[Part] = []

    def note(self, tokens: int | None, pass_number: int | None = None, accepted: int | None = None) -> None:
        """A part has come."""
        self.parts.append(Part(now_ms() - self.started_ms, tokens, pass_number, accepted))

    @property
    def total_ms(self) -> float:
        """Since the question was sent."""
        return now_ms() - self.started_ms


def ids(value: object) -> tuple[int, ...] | None:
    """Token ids, where that is what this is."""
    if isinstance(value, list) and all(type(each) is int for each in value):
        return tuple(value)
    return None


def number(values: object, name: str) -> int | None:
    """A count of a JSON object, where it has one."""
    found = values.get(name) if isinstance(values, dict) else None
    return int(found) if isinstance(found, (int, float)) else None


def total(values: Iterable[int | None]) -> int | None:
    """Their sum; `None` where one is unknown."""
    known = list(values)
    return sum(each for each in known if each is not None) if known and None not in known else None


def as_json(prompt: Prompt) -> str | list[int]:
    """A prompt as it is sent."""
    return prompt if isinstance(prompt, str) else list(prompt)


def joined(prompt: Prompt, tokens: Sequence[int | str]) -> Prompt:
    """A prompt and what was said behind it."""
    if isinstance(prompt, str):
        return prompt + "".join(str(token) for token in tokens)
    return (*prompt, *(int(token) for token in tokens))
