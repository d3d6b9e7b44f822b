"""A drafter and a target that answer from a trace, and let a virtual clock advance by a cost table.

A method's own decoder runs on them, so a replay does what the method does, whatever that is. What greedy and
coupled verification accept is decided by the trace alone; the cost table decides when.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from specbench.clock import now_ms
from specbench.engine.batch import alone
from specbench.engine.rereading import Reread
from specbench.forecast.events import (
    Asked,
    Awaited,
    Forgotten,
    OpenRequest,
    Streamed,
    Timeline,
)
from specbench.forecast.traced_drafter import Text, TracedDrafter
from specbench.profile import Options
from specbench.results.records import Round
from specbench.speculation.loop import SpeculativeLoop
from specbench.speculation.proposal import NO_DRAFT, Proposal
from specbench.speculation.request import Request
from specbench.speculation.rules import matching
from specbench.stats.prices import Charge

if TYPE_CHECKING:
    from specbench.engine.session import Block, Passed


END = -2  # behind the text; nothing that is drafted is this


def standing(proposal: Proposal, following: Sequence[int]) -> int:
    """How many drafted tokens stand, along one path, where the target's next tokens are these."""
    ids = (*following[: len(proposal) + 1], *[END] * (len(proposal) + 1))
    return matching(proposal.tokens, [ids[depth] for depth in (0, *proposal.depths)], proposal.parents).accepted


class VirtualDrafter(TracedDrafter):
    """The traced draft, whose passes cost what a table says.

    Args:
        charge: is told of each.
        place: behind the kind of a charge.
    """

    def __init__(self, text: Text, charge: Callable[[Charge], object], place: str = "") -> None:
        self._text = text
        self._charge = charge
        self._place = place

    def _prefill(self, prompt_tokens: int) -> None:
        self._charge(Charge("draft prefill" + self._place, prompt_tokens))

    def _compute(self, drafted: int, unread: int) -> None:
        self._charge(Charge("draft" + self._place, drafted, unread))


class VirtualTarget:
    """The traced target: it commits its own sequence, and its passes and the link take their time."""

    streams = True
    top_ids = ()
    hidden_states = None

    def __init__(self, text: Text, timeline: Timeline) -> None:
        self._text = text
        self._timeline = timeline
        self._work: list[Charge] = []
        """What was computed here, and is not yet asked for or streamed."""
        self.rtt_ms: float | None = None

    def begin(self, request: Request) -> Round:
        """Read the prompt; the first token."""
        self._position = self._trusted = self._ahead = 0
        self._is_void = False
        self._reread = Reread(self._timeline.prices.costs.target.restores_state)
        prompt_tokens = len(request.prompt_ids)
        self._work.append(Charge("target prefill", prompt_tokens))
        trip = Charge("trip", prompt_tokens, 1)
        self._ask(trip)
        self._timeline.take(Awaited())
        self.rtt_ms = self._timeline.prices.of(trip)
        return self._commit(Round(*self._next(1)))

    @property
    def remaining(self) -> int:
        """Tokens of the budget that are left."""
        return self._text.budget - self._position

    def verify(self, proposal: Proposal | None = None) -> Round:
        """One pass, and one round trip."""
        return self.submit(proposal).result()

    def verified(self, proposal: Proposal) -> Generator[Block, Passed, Round]:
        """`verify` for the loop."""
        return self.verify(proposal)
        yield

    def submit(self, proposal: Proposal | None) -> VirtualPending:
        """Send a proposal; its verdict is there after the pass and the round trip.

        Behind one with `continues` it is judged as if that one were accepted; where it is not, it is void.
        """
        part, is_void, follows = self._judged(proposal), self._is_void, self._ahead > 0
        trip = Charge("trip", part.drafted or 0, len(part.tokens))
        asked, self.rtt_ms = self._ask(trip, follows, is_void), self._timeline.prices.of(trip)
        if proposal and proposal.continues:
            self._ahead += len(proposal)
            self._is_void = is_void or not proposal.stands(part)

        def result() -> Round:
            self._timeline.take(Awaited())
            self._timeline.take(Charge("round"))
            work = asked.work
            assert work is not None
            computed_ms = work.computed_ms if asked.is_first else 0.0
            found = part if computed_ms == part.verify_ms else replace(part, verify_ms=computed_ms)
            if proposal and (follows or proposal.continues):
                rows = work.rows - (part.replayed_tokens or 0)
                found = replace(found, pass_tokens=rows if asked.is_first else 0)
            if proposal and proposal.stands(part):
                self._ahead -= len(proposal)
            elif self._ahead:
                self._ahead, self._is_void = 0, False
                self._timeline.take(Forgotten())
            return self._commit(found)

        return VirtualPending(asked, result)

    def trust(self, tokens: Sequence[int]) -> Round:
        """Commit what a gate let pass; it is sent, and not waited for."""
        trusted = self._trusted
        known, reason = self._next(len(tokens))
        self._timeline.take(Charge("round"))
        part = self._commit(Round(tuple(tokens[: len(known)]), reason, unverified=len(known)))
        self._trusted = trusted + len(known)
        return part

    def decode(self) -> Generator[Round, None, None]:
        """A token a pass, streamed, to the end."""
        while self._position < len(self._text.ids):
            part = self._commit(self._judged(None))
            self._stream(part)
            yield part

    def check(self) -> None:
        """Nothing: there is no cache."""

    def _ask(self, trip: Charge, follows: bool = False, is_void: bool = False) -> OpenRequest:
        asked = self._timeline.take(Asked(self._worked(), trip, follows, is_void))
        assert asked is not None
        return asked

    def _stream(self, part: Round) -> None:
        self._work.append(Charge("stream"))
        self._timeline.take(Streamed(self._worked(), Charge("answer", len(part.tokens))))

    def _worked(self) -> tuple[Charge, ...]:
        work, self._work[:] = tuple(self._work), []
        return work

    def _judged(self, proposal: Proposal | None) -> Round:
        """What a pass commits; the pass is charged for, and nothing is committed yet."""
        drafted = proposal.tokens if proposal else ()
        start = self._position + self._ahead
        accepted = standing(proposal or NO_DRAFT, self._text.ids[start : start + len(drafted) + 1])
        goes_on = bool(proposal and proposal.continues)
        count = self._trusted + len(drafted) + (not goes_on)
        again, passes = self._reread.again, [Charge("pass", width) for width in self._reread.passes(count)]
        if not self._is_void:
            self._reread.judged(count, len(drafted) - accepted)
        self._work += passes
        tokens, reason = self._next(accepted + (not goes_on or accepted < len(drafted)), start)
        is_draft = proposal is not None
        return Round(
            tokens,
            reason,
            drafted=len(drafted) if is_draft else None,
            accepted=min(accepted, len(tokens)) if is_draft else None,
            depth=proposal.depth if proposal and proposal.parents else None,
            verify_ms=self._timeline.prices.sum_of(passes),
            replayed_tokens=again if is_draft else None,
        )

    def _next(self, count: int, start: int | None = None) -> tuple[tuple[int, ...], str | None]:
        """The next tokens, at most so many as there are, and why they are the last if they are."""
        start = self._position if start is None else start
        tokens = self._text.ids[start : start + count]
        if start + len(tokens) < len(self._text.ids):
            return tokens, None
        return tokens, "stop" if self._text.stop_ids else "length"

    def _commit(self, part: Round) -> Round:
        self._position += len(part.tokens)
        self._trusted = 0
        return part


@dataclass(frozen=True)
class VirtualPending:
    """A verification in flight.

    Args:
        asked: the request.
        result: waits for it.
    """

    asked: OpenRequest
    result: Callable[[], Round]

    @property
    def is_done(self) -> bool:
        """Whether the verdict is there."""
        return now_ms() >= self.asked.due_ms


class VirtualColocated(VirtualTarget):
    """Draft and target in one place, what is committed streamed to the edge."""

    def __init__(self, text: Text, timeline: Timeline, options: Options) -> None:
        super().__init__(text, timeline)
        self._drafter = VirtualDrafter(text, self._work.append, " there")
        self._loop = SpeculativeLoop(self._drafter, self, options.speculative.draft_length)

    def begin(self, request: Request) -> Round:
        """Read the prompt on both sides."""
        self._request = request
        self._drafter.begin(request)
        part = super().begin(request)
        self._drafter.commit(part.tokens, 0)
        return part

    def verify(self, proposal: Proposal | None = None) -> Round:
        """One pass, for the loop in this place."""
        return self._commit(self._judged(proposal))

    def decode(self) -> Generator[Round, None, None]:
        """The loop's rounds, streamed."""
        for part in alone(self._loop.rounds(self._request)):
            self._work.append(Charge("round"))
            self._stream(part)
            yield part
