"""What every server can be asked, whatever its interface."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from typing import ClassVar

from specbench.clock import now_ms
from specbench.errors import SpecbenchError
from specbench.servers.answers import Completion, Facts, Judged, Part, Question
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
    verifies = False
    """Whether `judged` can be asked."""

    obeys_stops = False
    """Whether the stop ids of a question, and no others, end an answer."""

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
    def complete(self, question: Question) -> Completion:
        """The whole answer at once."""

    @abstractmethod
    def parts(self, question: Question, said: Completion) -> Generator[Part, None, None]:
        """The answer as it comes; what has come so far is in `said`."""

    def stream(self, question: Question) -> Completion:
        """The whole answer, streamed, with the time of each part."""
        said = Completion()
        for _ in self.parts(question, said):
            pass
        return said

    def tokenized(self, text: str) -> tuple[int, ...] | None:
        """Its ids of a text, without a first token of its own; `None` where it does not say."""
        return None

    def templated(self, question: str) -> tuple[int, ...] | None:
        """Its ids of a question in its chat template; `None` where it does not say."""
        return None

    def counters(self) -> dict[str, int] | None:
        """What it has drafted and accepted since its start; `None` where it counts by request, or not."""
        return None


class HttpServer(Server):
    """A server at an address.

    Args:
        model: which of its models; `None` takes its first.
    """

    path: str
    """Where completions are asked for."""

    streaming: ClassVar[dict[str, object]] = {"stream": True}
    root: str | None = None
    """What it loaded, and in which dtype, and for how many tokens it has room, where it says so."""
    dtype: str | None = None
    context_length: int | None = None

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

    @abstractmethod
    def request(self, question: Question) -> dict:
        """A question in its words."""

    @abstractmethod
    def take(self, document: dict, said: Completion) -> None:
        """Add a whole answer, or one event of it, to what was said.

        Raises:
            SpecbenchError: it is something else.
        """

    def complete(self, question: Question) -> Completion:
        """As of `Server`."""
        said, started = Completion(), now_ms()
        answer = self.client.answered(self.path, self.request(question))
        self.take(answer.document, said)
        if question.top and said.tokens and said.top and len(said.top) < len(said.tokens) - 1:
            raise self.client.error(f"sends {len(said.top)} log-probabilities for {len(said.tokens)} tokens")
        said.total_ms = now_ms() - started
        said.bytes_up, said.bytes_down = answer.bytes_up, answer.bytes_down
        return said

    def parts(self, question: Question, said: Completion) -> Generator[Part, None, None]:
        """As of `Server`."""
        started = now_ms()
        asked = self.request(question) | self.streaming
        up = down = 0
        for answer in self.client.streamed(self.path, asked, self.is_last):
            length, count = len(said.text), len(said.tokens or ())
            self.take(answer.document, said)
            up, down = up + answer.bytes_up, down + answer.bytes_down
            text, tokens = said.text[length:], None if said.tokens is None else said.tokens[count:]
            if text or tokens:
                at_ms = now_ms() - started
                said.parts.append(Part(at_ms, text, tokens, said.clock_ms, said.accepted, up, down))
                up = down = 0
                yield said.parts[-1]
        if said.finish_reason is None:
            raise self.client.error("ended a stream without saying why")
        said.total_ms = now_ms() - started

    def judged(self, question: Question, drafted: Sequence[int]) -> Judged:
        """What it would have said itself in the place of each drafted token behind a prompt, greedily.

        Args:
            question: of one token.
            drafted: at least one.

        Raises:
            SpecbenchError: its interface cannot say that.
        """
        raise SpecbenchError(
            f"the {self.kind} server at {self.url} gives no log-probabilities of drafted tokens, so it cannot "
            "verify them",
            "run cloud_baseline on it; vllm and llama.cpp servers verify (docs/how-to/a-server.md)",
        )

    def log_probabilities(self, question: Question, pair: tuple[int, int]) -> tuple[float, float] | None:
        """Of two tokens in one place behind a prompt; `None` where one of them is not told."""
        top = self.complete(replace(question, top=self.tops)).top if self.tops else None
        left, right = (top[0].get(token) for token in pair) if top else (None, None)
        return None if left is None or right is None else (left, right)

    @staticmethod
    def is_last(document: object) -> bool:
        """Whether an event ends a stream; `[DONE]` always does."""
        return False


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
