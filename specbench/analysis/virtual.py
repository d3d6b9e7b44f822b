"""A drafter and a target that answer from a trace, and let a virtual clock advance by a cost table.

A method's own decoder runs on them, so a replay does what the method does, whatever that is. What greedy and
coupled verification accept is decided by the trace alone; the cost table decides when.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

from specbench.analysis.clock import Charge, Prices
from specbench.analysis.schedule import Text
from specbench.clock import VirtualClock, now_ms
from specbench.config import Options
from specbench.decoding.batch import alone
from specbench.decoding.loop import SpeculativeLoop
from specbench.decoding.proposal import Proposal
from specbench.decoding.request import Request
from specbench.errors import SpecbenchError
from specbench.records import Round

if TYPE_CHECKING:
    from specbench.decoding.session import Block, Passed


class Meter:
    """Advances the clock by what things cost, and keeps what was charged in this round."""

    def __init__(self, prices: Prices, clock: VirtualClock) -> None:
        self.prices = prices
        self._clock = clock
        self._round: list[Charge] = []

    def charge(self, charge: Charge) -> None:
        """Something that takes its time now; what a cost table does not price takes none."""
        self._round.append(charge)
        self._clock.advance(self.prices.of(charge) or 0.0)

    def wait_until(self, then_ms: float) -> None:
        """Let the time pass until a moment, if it is still to come."""
        self._clock.advance(max(0.0, then_ms - self._clock.now_ms))

    def stream(self, committed: int) -> None:
        """What is streamed overlaps with the work before it: a round takes the longer of both."""
        busy = self.prices.sum_of(self._round) or 0.0
        answer = Charge("answer", committed)
        self._round.append(answer)
        self._clock.advance(max(0.0, (self.prices.of(answer) or 0.0) - busy))

    def taken(self) -> tuple[Charge, ...]:
        """What was charged since this was last asked."""
        charges, self._round = tuple(self._round), []
        return charges


class VirtualDrafter:
    """The traced draft: its proposals, its cache's length, and what its passes cost.

    Args:
        beside_target: it runs on the target's hardware.
    """

    def __init__(self, text: Text, meter: Meter, beside_target: bool = False) -> None:
        self._text = text
        self._meter = meter
        self._place = " there" if beside_target else ""

    def begin(self, request: Request) -> None:
        """Read the prompt."""
        self._committed = self._proposed = self._cached = self.uncommitted = 0
        self._meter.charge(Charge("draft prefill" + self._place, self._text.prompt_tokens))

    def propose(self, draft_length: int) -> Proposal:
        """What the draft said there, those tokens first that were drafted ahead."""
        self._proposed = draft_length
        self._draft(draft_length - self.uncommitted)
        tokens = [self._token(index) for index in range(draft_length)]
        return Proposal(tokens, is_certain=self._text.passes(self._committed, draft_length))

    def draft_ahead(self) -> int:
        """One more token."""
        self._draft(1)
        return self._token(self.uncommitted - 1)

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """Take over what was committed, as `decoding.drafter.ModelDrafter` does."""
        drafted = [self._token(index) for index in range(self.uncommitted)]
        if accepted == self._proposed and drafted[: len(tokens)] == list(tokens):
            self._committed += len(tokens)
            self.uncommitted -= len(tokens)
            return 0
        self._cached = min(self._cached, self._committed + accepted)
        self._committed += len(tokens)
        self.uncommitted = 0
        return len(drafted) - self._proposed

    def check(self) -> None:
        """Nothing: there is no cache."""

    def _token(self, index: int) -> int:
        return self._text.drafted(self._committed, self._committed + index)

    def _draft(self, count: int) -> None:
        if count <= 0:
            return
        unread = self._committed + self.uncommitted - self._cached
        self._meter.charge(Charge("draft" + self._place, count, unread))
        self.uncommitted += count
        self._cached = self._committed + self.uncommitted - 1


class VirtualTarget:
    """The traced target: it commits its own sequence, and its passes and the link take their time.

    Args:
        is_remote: a link lies between it and the drafter.
    """

    streams = True

    def __init__(self, text: Text, meter: Meter, is_remote: bool = True) -> None:
        self._text = text
        self._meter = meter
        self._is_remote = is_remote
        self.rtt_ms: float | None = None

    def begin(self, request: Request) -> Round:
        """Read the prompt; the first token."""
        self._position = self._trusted = 0
        self._meter.charge(Charge("target prefill", self._text.prompt_tokens))
        self._meter.charge(Charge("trip", self._text.prompt_tokens, 1))
        return self._commit(self._next(1))

    @property
    def remaining(self) -> int:
        """Tokens of the budget that are left."""
        return self._text.budget - self._position

    def verify(self, proposal: Proposal | None = None) -> Round:
        """One pass, and one round trip."""
        part, charges = self._judged(proposal)
        for charge in charges:
            self._meter.charge(charge)
        self._meter.charge(Charge("round"))
        return self._commit(part)

    def verified(self, proposal: Proposal) -> Generator[Block, Passed, Round]:
        """`verify` for the loop."""
        return self.verify(proposal)
        yield

    def submit(self, proposal: Proposal) -> VirtualPending:
        """Send a proposal; its verdict is there after the pass and the round trip."""
        part, charges = self._judged(proposal)
        due_ms = now_ms() + (self._meter.prices.sum_of(charges) or 0.0)

        def result() -> Round:
            self._meter.wait_until(due_ms)
            self._meter.charge(Charge("round"))
            return self._commit(part)

        return VirtualPending(due_ms, result)

    def trust(self, tokens: Sequence[int]) -> Round:
        """Commit what a gate let pass; it is sent, and not waited for."""
        trusted = self._trusted
        part = self._commit(self._next(len(tokens)))
        self._trusted = trusted + len(part.tokens)
        self._meter.charge(Charge("round"))
        return replace(part, tokens=tuple(tokens[: len(part.tokens)]), unverified=len(part.tokens))

    def decode(self) -> Iterator[Round]:
        """A token a pass, streamed, to the end."""
        while self._position < len(self._text.ids):
            part, charges = self._judged(None)
            self._meter.charge(charges[0])
            self._meter.stream(len(part.tokens))
            yield self._commit(part)

    def check(self) -> None:
        """Nothing: there is no cache."""

    def _judged(self, proposal: Proposal | None) -> tuple[Round, list[Charge]]:
        """What a pass commits, and what it and the way there and back cost; nothing is committed yet."""
        drafted = tuple(proposal.tokens) if proposal else ()
        rest = self._text.ids[self._position :]
        accepted = 0
        while accepted < min(len(drafted), len(rest)) and drafted[accepted] == rest[accepted]:
            accepted += 1
        width = self._trusted + len(drafted) + 1
        charges = [Charge("pass", width)]
        part = replace(self._next(accepted + 1), verify_ms=self._meter.prices.pass_ms(width))
        if self._is_remote:
            charges.append(Charge("trip", len(drafted), len(part.tokens)))
            self.rtt_ms = self._meter.prices.of(charges[-1])
        if proposal is None:
            return part, charges
        return replace(part, drafted=len(drafted), accepted=min(accepted, len(part.tokens))), charges

    def _next(self, count: int) -> Round:
        """The next tokens, at most so many as there are."""
        tokens = self._text.ids[self._position : self._position + count]
        ended = self._position + len(tokens) == len(self._text.ids)
        reason = None if not ended else "stop" if self._text.stop_ids else "length"
        return Round(tokens, reason)

    def _commit(self, part: Round) -> Round:
        self._position += len(part.tokens)
        self._trusted = 0
        return part


@dataclass(frozen=True)
class VirtualPending:
    """A verification in flight.

    Args:
        due_ms: when its verdict is there.
        result: waits for it.
    """

    due_ms: float
    result: Callable[[], Round]

    @property
    def is_done(self) -> bool:
        """Whether the verdict is there."""
        return now_ms() >= self.due_ms


class VirtualColocated(VirtualTarget):
    """Draft and target in one place, what is committed streamed to the edge."""

    def __init__(self, text: Text, meter: Meter, options: Options) -> None:
        super().__init__(text, meter, is_remote=False)
        self._drafter = VirtualDrafter(text, meter, beside_target=True)
        self._loop = SpeculativeLoop(self._drafter, self, options.speculative.draft_length)

    def begin(self, request: Request) -> Round:
        """Read the prompt on both sides."""
        self._request = request
        self._drafter.begin(request)
        part = super().begin(request)
        self._drafter.commit(part.tokens, 0)
        return part

    def decode(self) -> Iterator[Round]:
        """The loop's rounds, streamed."""
        for part in alone(self._loop.rounds(self._request)):
            self._meter.stream(len(part.tokens))
            yield part


class _Virtual:
    """A model that exists as a trace."""

    role = ""

    def __init__(self, text: Text, meter: Meter) -> None:
        self._text = text
        self._meter = meter

    def load(self) -> None:
        """Nothing: it is a trace."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise SpecbenchError(f"a replay has no {self.role} model, and the method asks for its '{name}'")


class VirtualEdge(_Virtual):
    """The edge of a replay."""

    role = "edge"
    drafts = False
    """Whether the traced draft was asked for."""

    def drafter(self, options: Options) -> VirtualDrafter:
        """The traced draft."""
        self.drafts = True
        return VirtualDrafter(self._text, self._meter)


class VirtualCloud(_Virtual):
    """The cloud of a replay."""

    role = "cloud"
    goes_on_alone = verifies = False
    """`verifies`: whether proposals will come from a drafter."""

    def target(self, options: Options) -> VirtualTarget:
        """The traced target, decoding alone."""
        return VirtualTarget(self._text, self._meter)

    def verifier(self, options: Options) -> VirtualTarget:
        """The traced target, verifying."""
        self.verifies = True
        return VirtualTarget(self._text, self._meter)

    def colocated(self, edge: VirtualEdge, options: Options) -> VirtualColocated:
        """Both, in one place."""
        return VirtualColocated(self._text, self._meter, options)
