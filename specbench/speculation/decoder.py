"""How a method answers one request after the other: one model alone, or a drafter and the speculative loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace

from specbench.clock import now_ms
from specbench.engine.batch import alone
from specbench.errors import CloudLostError
from specbench.results.records import Round
from specbench.speculation.loop import Drafter, FallbackDrafter, SpeculativeLoop, StreamingTarget, Target
from specbench.speculation.request import Request


class Decoder(ABC):
    """A method with its models loaded; answers one request after the other, and carries nothing over.

    Attributes:
        runs_on: it computes on while a round that it yielded is looked at, as a stream from a server does. The
            runner then leaves its own work between rounds on the clock, for the next round was on its way
            meanwhile. A decoder that waits to be asked for the next round does not run on.
    """

    runs_on: bool = False

    @abstractmethod
    def generate(self, request: Request) -> Iterator[Round]:
        """Yield a `Round` each time tokens are committed; the runner owns the clock.

        The first round commits the first token (or chunk). Ids are Python ints, none of them behind a
        stop token or beyond the budget.
        """

    def check(self) -> None:
        """Assert what must hold between rounds, such as cache lengths; called off the clock."""


class AutoregressiveDecoder(Decoder):
    """One target that goes on by itself: a token a round, or what it drafts where it runs."""

    def __init__(self, target: StreamingTarget) -> None:
        self._target = target
        self.runs_on = target.streams

    def generate(self, request: Request) -> Iterator[Round]:
        """Prefill, then single steps."""
        commit = self._target.begin(request)
        yield commit
        if commit.finish_reason is None:
            yield from self._target.decode()

    def check(self) -> None:
        """The cache's length."""
        self._target.check()


class SpeculativeDecoder(Decoder):
    """A drafter, a target, and the loop between them.

    The first round is the target's first token; drafting starts after it.

    Args:
        loop: has the same drafter and target.
        fallback: decodes the rest of a sequence when the cloud is lost for good; without one that is an error.
    """

    def __init__(
        self,
        drafter: Drafter,
        target: Target,
        loop: SpeculativeLoop,
        fallback: FallbackDrafter | None = None,
    ) -> None:
        self._drafter = drafter
        self._target = target
        self._loop = loop
        self._fallback = fallback
        self.runs_on = loop.runs_on

    def generate(self, request: Request) -> Iterator[Round]:
        """Rounds to the end of the sequence, with the cloud, or without one that is lost."""
        text = list(request.prompt_ids)
        try:
            for part in self._with_cloud(request):
                text += part.tokens
                yield part
        except CloudLostError:
            if self._fallback is None:
                raise
            for token in self._fallback.decode_alone():
                kept, finish_reason = request.cut(text, (token,))
                text += kept
                yield Round(kept, finish_reason, unverified=1)
                if finish_reason:
                    return

    def _with_cloud(self, request: Request) -> Iterator[Round]:
        started = now_ms()
        self._drafter.begin(request)
        draft_ms = now_ms() - started
        commit = self._target.begin(request)
        self._drafter.commit(commit.tokens, 0)
        yield replace(commit, draft_ms=draft_ms)
        if commit.finish_reason is None:
            yield from alone(self._loop.rounds(request))

    def check(self) -> None:
        """Cache lengths, on both sides."""
        self._target.check()
        self._drafter.check()
