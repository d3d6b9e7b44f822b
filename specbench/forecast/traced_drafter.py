"""A traced sequence, and the traced draft as a drafter: it proposes what the real one would have."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import exp
from typing import NoReturn

from specbench.api import AheadDrafter, Proposal, Request, SpecbenchError
from specbench.forecast.acceptance_trace import Top, Trace, TracedText

WRONG = -1  # a drafted token that is not the target's; no id of a vocabulary
UNLISTED = 1_000  # rank of a token that a trace does not list


@dataclass(frozen=True, eq=False)
class Text:
    """One sequence of the target's.

    Args:
        runs: by position, how many tokens from there on the draft would get right in a row, behind the
            target's own prefix; as long as the sequence.
        budget: tokens that were asked for; a sequence that met a stop token is shorter.
        sure: by position, of how many tokens in a row a gate finds the draft sure; empty without a gate.
        unsure: positions behind which `speculative.confidence_stop` ends a draft.
        tokens: the target's ids; positions stand for them where they are unknown.
        prompt_ids: for drafters that read the prompt; empty where they are unknown.
        likely: by position, the draft's likeliest tokens, where its choice is the likeliest one; else empty.
    """

    prompt_tokens: int
    budget: int
    runs: tuple[int, ...]
    sure: tuple[int, ...] = ()
    unsure: frozenset[int] = frozenset()
    tokens: tuple[int, ...] = ()
    prompt_ids: tuple[int, ...] = ()
    likely: tuple[Top, ...] = ()

    @classmethod
    def of(cls, agrees: str, budget: int, prompt_tokens: int = 1, sure: str = "") -> Text:
        """A sequence by its agreement, `1` or `0` a position; the first counts for nothing. `sure` likewise."""
        return cls(prompt_tokens, budget, runs_of(agrees), runs_of(sure))

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """The target's ids."""
        return self.tokens or tuple(range(len(self.runs)))

    @property
    def stop_ids(self) -> frozenset[int]:
        """The id that ends it, where it ends before its budget."""
        return frozenset([self.ids[-1]]) if len(self.runs) < self.budget else frozenset()

    def rank(self, position: int) -> int:
        """How many tokens the draft finds likelier there than the target's; `UNLISTED` if too few are known."""
        (ids, _), token = self.likely[position], self.ids[position]
        return ids.index(token) if token in ids else UNLISTED

    def drafted(self, start: int, count: int) -> tuple[int, ...]:
        """What the draft says behind the target's tokens to `start`; `WRONG` for any token but the target's."""
        right = self.runs[start : start + 1]
        known = self.ids[start : start + min(count, *right)] if right else ()
        return known + (WRONG,) * (count - len(known))

    def passes(self, position: int, drafted: int) -> bool:
        """Whether a gate lets a draft through unseen; never one in which a stop token may end the sequence."""
        ends = len(self.runs) < self.budget and position + drafted >= len(self.runs)
        return bool(self.sure) and 0 < drafted <= self.sure[position] and not ends


def runs_of(bits: str) -> tuple[int, ...]:
    """By position, how many ones stand in a row from there on."""
    runs = [0] * (len(bits) + 1)
    for position in range(len(bits) - 1, -1, -1):
        runs[position] = runs[position + 1] + 1 if bits[position] == "1" else 0
    return tuple(runs[:-1])


def texts_of(trace: Trace) -> list[Text]:
    """All sequences of a trace.

    Raises:
        SpecbenchError: none is long enough to time: nothing is drafted for a first token.
    """
    if not any(len(text.tokens) > 1 for text in trace.texts):
        raise SpecbenchError(
            "the trace holds no text with two or more tokens",
            "make it with a larger workload.max_new_tokens",
        )
    if trace.verification != "greedy":
        return [text_of(text) for text in trace.texts]
    return [replace(text_of(text), likely=text.draft_top or ()) for text in trace.texts]


def text_of(traced: TracedText, confidence_stop: float | None = None) -> Text:
    """One sequence as it is stored, and where a draft along it ends with `speculative.confidence_stop`."""
    return Text(
        traced.prompt_tokens,
        traced.max_new_tokens,
        runs_of(traced.agrees),
        unsure=unsure_in(traced, confidence_stop) if confidence_stop is not None else frozenset(),
        tokens=traced.tokens,
        prompt_ids=traced.prompt_ids or (),
    )


def unsure_in(traced: TracedText, confidence_stop: float) -> frozenset[int]:
    """Positions at which the draft gave its own token a lower probability than this."""
    return frozenset(
        position
        for position, log_probability in enumerate(traced.log_probability)
        if exp(log_probability) < confidence_stop
    )


class TracedDrafter(AheadDrafter):
    """Proposes by a `Text` and keeps the length of a cache, as `speculation.drafter.ModelDrafter` does.

    A subclass says what reading a prompt and drafting take.
    """

    _text: Text

    def begin(self, request: Request) -> None:
        """Read the prompt."""
        self._committed = self._cached = self._uncommitted = 0
        self._proposed: deque[int] = deque()
        self._others: dict[int, int] = {}
        self._prefill(len(request.prompt_ids))

    @property
    def uncommitted(self) -> int:
        """Tokens that are drafted and not judged."""
        return self._uncommitted

    def propose(self, draft_length: int) -> Proposal:
        """What the draft said there, those tokens first that were drafted ahead."""
        before = sum(self._proposed)
        length = self._length(self._committed + before, draft_length)
        self._proposed.append(length)
        self._draft(before + length - self._uncommitted)
        tokens = self._tokens(before + length)[before:]
        return Proposal(tokens, is_certain=self._text.passes(self._committed, length))

    def append(self, tokens: Sequence[int]) -> None:
        """Take tokens of another's proposal; behind a wrong one, whatever the draft says is refused."""
        end = self._committed + self._uncommitted
        self._others |= {end + index: token for index, token in enumerate(tokens)}
        self._uncommitted += len(tokens)

    def top_k(self, count: int) -> NoReturn:
        """Refused: a trace holds tokens.

        Raises:
            SpecbenchError: always.
        """
        raise SpecbenchError("the method needs log-probabilities of the draft, which a trace does not hold")

    def log_probabilities(self) -> NoReturn:
        """As `top_k`."""
        self.top_k(0)

    def draft_ahead(self) -> int | None:
        """One more token."""
        self._draft(1)
        return self._tokens(self._uncommitted)[-1]

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """Take over what was committed."""
        drafted = self._tokens(self._uncommitted)
        proposed = self._proposed.popleft() if self._proposed else 0
        if accepted == proposed and drafted[: len(tokens)] == tuple(tokens):
            self._committed += len(tokens)
            self._uncommitted -= len(tokens)
            return 0
        self._others.clear()
        self._proposed.clear()
        self._cached = min(self._cached, self._committed + accepted)
        self._committed += len(tokens)
        self._uncommitted = 0
        return len(drafted) - proposed

    def overtake(self, token: int) -> bool:
        """As of `speculation.drafter.ModelDrafter`."""
        if not self._uncommitted or self._tokens(1) != (token,):
            self.commit((token,), 0)
            return False
        self._proposed[0] -= 1
        if not self._proposed[0]:
            self._proposed.popleft()
        self._committed += 1
        self._uncommitted -= 1
        return True

    def check(self) -> None:
        """Nothing: there is no cache."""

    @abstractmethod
    def _prefill(self, prompt_tokens: int) -> None:
        """Take the time of reading a prompt."""

    @abstractmethod
    def _compute(self, drafted: int, unread: int) -> None:
        """Take the time of drafting so many tokens, the first of them behind `unread` new ones."""

    def _tokens(self, count: int) -> tuple[int, ...]:
        """What was drafted behind the committed tokens."""
        if not self._others:
            return self._text.drafted(self._committed, count)
        return tuple(self._token(self._committed + index) for index in range(count))

    def _token(self, position: int) -> int:
        if position in self._others:
            return self._others[position]
        start = max([self._committed, *(other + 1 for other in self._others if other < position)])
        return self._text.drafted(start, position - start + 1)[-1]

    def _length(self, start: int, draft_length: int) -> int:
        """Of a proposal; behind a wrong token, which no trace knows, the draft is as sure as along the text."""
        for position in range(start, start + draft_length):
            if position in self._text.unsure and position not in self._others:
                return position + 1 - start
        return draft_length

    def _draft(self, count: int) -> None:
        if count <= 0:
            return
        self._compute(count, self._committed + self._uncommitted - self._cached)
        self._uncommitted += count
        self._cached = self._committed + self._uncommitted - 1
