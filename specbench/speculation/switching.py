"""The loop that chooses in each round where the target decodes alone meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, cast

from specbench.clock import now_ms
from specbench.results.records import Round
from specbench.speculation.adaptive import AdaptiveLoop
from specbench.speculation.draft_length import LONGEST, DraftLengths
from specbench.speculation.filled_sizes import FilledSizes
from specbench.speculation.flown import Flown
from specbench.speculation.gains import BUDGET, MARGIN, losses_ms
from specbench.speculation.lookup_drafter import LookupDrafter
from specbench.speculation.loop import SpeculativeLoop, Target, proposed
from specbench.speculation.measured import Measured
from specbench.speculation.overtaking import UnderWay
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Request

if TYPE_CHECKING:
    from specbench.engine.batch import Steps
    from specbench.engine.session import Block, Passed

IDLE_MS = 0.5  # a shorter wait is that for what was here already
EVERY = 4  # where drafting does not pay, a token is drafted along with one of so many


class SwitchingTarget(Target, Protocol):
    """A target elsewhere that decodes alone until a proposal arrives that has come further.

    Attributes:
        goes_on: set before `begin`: it decodes on behind the prompt, and proposals may be sent into that.
    """

    goes_on: bool

    def send(self, proposal: Proposal) -> UnderWay:
        """Send a proposal, into a stream too."""

    @property
    def has_next(self) -> bool:
        """Whether `next` need not wait."""

    def next(self) -> Round:
        """What the target commits next: the oldest proposal's verdict, or a token that it says before that.

        With nothing in flight and no stream it is asked to decode alone.
        """

    def halt(self) -> None:
        """Have it decode no further."""


class SwitchingLoop(SpeculativeLoop):
    """Chooses by what this sequence has shown so far: costs, acceptance and round trip.

    The target decodes alone from the prompt on, and the edge drafts from there too. A proposal that arrives
    names the token where it starts. Where the target has said the same so far, it judges the rest; else it
    goes on.
    Behind a refusal it goes on alone too, where that is faster than to wait for the next proposal. So a refused
    proposal costs the target one pass and no waiting. The edge sends proposals while they are expected to pay.
    Else it drafts single tokens now and then, sends none, and compares them with what the target says.

    Args:
        target: asked to decode on behind each prompt.
        trees: both take trees.
    """

    runs_on = True
    _drafter: LookupDrafter
    _target: SwitchingTarget

    def __init__(self, drafter: LookupDrafter, target: SwitchingTarget, trees: bool = False) -> None:
        super().__init__(drafter, target, "auto")
        target.goes_on = True
        self._trees = trees
        self._costs = Measured()

    def rounds(self, request: Request) -> Steps[Round]:
        """As of every loop; a stream that nobody reads on is stopped."""
        try:
            yield from super().rounds(request)
        finally:
            self._target.halt()

    def _begin(self, request: Request) -> None:
        self._request = request
        self._in_flight: deque[Flown] = deque()
        self._sizes = FilledSizes(self._costs, self._trees)
        self._sizes.choose()
        self._lookups = DraftLengths("auto")
        self._drafts = bool(self._costs.alone)  # in the first text it listens first
        self._epoch = 0
        self._parts = 0
        self._came_ms, self._waited, self._is_busy = now_ms(), False, True
        self._lost_ms = 0.0  # by drafting, against the target alone

    def _round(self) -> Generator[Block, Passed, Round]:
        while not self._target.has_next and self._drafts_on():
            self._send()
        along = self._draft_along() if not self._in_flight else ()
        started = now_ms()
        part = self._target.next()
        if part.drafted is not None:
            self._costs.own.add(max(0.0, now_ms() - started - (part.wait_ms or 0.0)))
        took_ms = now_ms() - self._came_ms
        self._came_ms += took_ms
        part = self._said(part, took_ms, along) if part.drafted is None else self._judged(part)
        if self._drafts or part.choice != "alone":
            self._lost_ms += took_ms - self._alone_ms * len(part.tokens)
        self._reconsider()
        return part
        yield  # a generator, though it waits for its passes by itself

    # What is sent

    def _drafts_on(self) -> bool:
        """Whether to send something before the next commit is taken."""
        if self._target.remaining - self._drafter.uncommitted <= 1:
            return False
        if not self._in_flight:
            return self._drafts or self._sizes.probe is not None or bool(self._found())
        if not self._in_flight[-1].sent.continues:
            return False
        return not self._drafts or len(self._in_flight) < self._sizes.next.window

    def _send(self) -> None:
        if self._sizes.probe and not self._in_flight:
            self._send_drafted()
        elif not self._in_flight and (found := self._found()):
            goes_on = self._sizes.size.goes_on or not self._drafts
            self._submit(replace(self._drafter.propose_found(found), goes_on=goes_on), 0.0, "lookup")
        elif not self._drafts:
            self._submit(Proposal(goes_on=True), 0.0, "")
        else:
            self._send_drafted()

    def _send_drafted(self) -> None:
        # The target adds a token of its own behind the last proposal, so a longer one could not be committed.
        room, size = self._target.remaining - self._drafter.uncommitted, self._sizes.next
        is_busy, length = self._is_busy or bool(self._in_flight), min(size.length, room - 1)
        started = now_ms()
        if size.nodes:
            proposal = self._drafter.propose_tree(length, size.nodes)
        else:
            proposal = proposed(self._drafter, length)
        draft_ms = now_ms() - started
        if size.nodes:
            self._costs.spend_on_tree(draft_ms, proposal.depth, len(proposal), is_busy)
        else:
            self._costs.spend(draft_ms, len(proposal), is_busy)
        continues = (
            size.window > 1
            and 0 < len(proposal) < room - 1
            and self._request.stop_ids.isdisjoint(proposal.tokens)
        )
        proposal = replace(proposal, continues=continues, goes_on=size.goes_on)
        self._submit(proposal, draft_ms, "tree" if size.nodes else "window" if size.window > 1 else "round")

    def _submit(self, proposal: Proposal, draft_ms: float, choice: str) -> None:
        self._in_flight.append(Flown(self._target.send(proposal), proposal, draft_ms, choice))

    # What the target commits

    def _said(self, part: Round, took_ms: float, along: Sequence[int]) -> Round:
        """A token that the target says alone; what is drafted is held against it."""
        waited, self._waited = self._waited, self._has_waited(part)
        if waited and self._waited and not self._drafts:
            self._costs.alone.add(took_ms)
        drafted, first = self._drafter.uncommitted, self._in_flight[0] if self._in_flight else None
        source = first.choice if first else ""
        is_met = is_hit = self._drafter.overtake(part.tokens[0])
        if first and source == "tree":
            is_hit = first.said(part.tokens[0], is_met)
        draft_ms = self._dropped()
        seen = replace(part, drafted=int(drafted > 0), accepted=int(is_hit), pass_tokens=1)
        if source == "lookup" or along:
            looked = is_hit if source == "lookup" else tuple(along) == part.tokens[:1]
            self._lookups.observe(replace(seen, drafted=1, accepted=int(looked)), 1, 0.0, 0, None)
        if source == "lookup":
            seen = replace(seen, drafted=0, accepted=0)
        self._costs.observe(seen, is_busy=bool(source))
        self._sizes.observe(seen, self._target.rtt_ms)
        wasted = drafted - self._drafter.uncommitted
        return replace(part, choice="alone", draft_ms=draft_ms or None, wasted_draft_tokens=wasted or None)

    def _judged(self, part: Round) -> Round:
        """The verdict on the oldest proposal."""
        first, before = self._in_flight.popleft(), self._drafter.uncommitted
        drafted, accepted = part.drafted or 0, part.accepted or 0
        self._waited = self._has_waited(part)
        _, upkeep_ms = self._take_over(part)
        draft_ms = first.draft_ms + upkeep_ms + self._dropped()
        seen = first.judged(part)
        if first.choice == "lookup":
            self._lookups.observe(part, drafted, 0.0, 0, None)
            seen = replace(part, drafted=0, accepted=0, pass_tokens=drafted + 1)
        self._costs.observe(part, is_busy=first.choice == "window")
        self._sizes.observe(seen, self._target.rtt_ms)
        if first.choice == "tree":
            self._ended(first, accepted)
        self._is_busy = bool(self._in_flight) or (accepted < drafted and first.sent.goes_on)
        epoch, self._epoch = self._epoch, self._epoch + (accepted < drafted)
        wasted = before - drafted - self._drafter.uncommitted
        return replace(
            part, choice=first.choice or "alone", draft_ms=draft_ms, epoch=epoch, wasted_draft_tokens=wasted
        )

    @staticmethod
    def _has_waited(part: Round) -> bool:
        """Whether the edge was there before the part, so that the time between two of them is the target's."""
        return part.wait_ms is not None and part.wait_ms > IDLE_MS

    def _dropped(self) -> float:
        """Forget what the target has made void or overtaken; returns what drafting that took."""
        draft_ms = 0.0
        while self._in_flight and self._in_flight[0].pending.is_over:
            over = self._in_flight.popleft()
            draft_ms += over.draft_ms
            if over.choice == "tree":
                self._ended(over)
        return draft_ms

    def _ended(self, tree: Flown, accepted: int = 0) -> None:
        """What became of a tree: tokens of it that the target has said, and those that it accepted."""
        self._sizes.observe_tree(len(tree.sent), tree.sent.depth, tree.met + accepted)

    # What is chosen

    @property
    def _alone_ms(self) -> float:
        """What a token of the target alone takes."""
        return self._costs.alone_ms() if self._costs.knows else 0.0

    def _draft_along(self) -> tuple[int, ...]:
        """Draft a token that the target is to say alone, to see what it is worth; what is looked up for it."""
        self._parts += 1
        if self._target.has_next or self._target.remaining <= 1:
            return ()
        is_cheap = not self._costs.knows or self._costs.step_ms[1] < self._alone_ms
        if self._parts % EVERY == 0 and is_cheap:
            started = now_ms()
            self._drafter.propose(1)
            self._costs.spend(now_ms() - started, 1, True)
        return self._drafter.found(1)

    def _found(self) -> tuple[int, ...]:
        """What is found in the sequence, where drafting that is expected to be fastest."""
        found = self._drafter.found(min(LONGEST, self._target.remaining - 1))
        if not found or not self._costs.knows:
            return ()
        goes_on = self._sizes.size.goes_on or not self._drafts
        ms, tokens = self._sizes.of_one(self._lookups.survival(len(found)), goes_on)
        return found if ms / tokens < (1 - MARGIN) * self._best_ms else ()

    @property
    def _best_ms(self) -> float:
        """Of a token, as it is decoded now."""
        return self._sizes.ms_per_token if self._drafts else self._alone_ms

    def _reconsider(self) -> None:
        """Whether the edge is to draft."""
        self._sizes.choose()
        if not self._costs.knows:
            return
        loss_ms, risk_ms = losses_ms(self._sizes, self._alone_ms)
        margin_ms = MARGIN * self._alone_ms * (0.5 if self._drafts else 1.0)
        pays = loss_ms < -margin_ms
        if (
            self._lost_ms + (0.0 if self._drafts else risk_ms)
            > BUDGET * self._alone_ms * self._request.max_new_tokens
        ):
            gain_ms = (self._alone_ms - self._sizes.ms_per_token) * self._target.remaining
            pays = pays and gain_ms > self._lost_ms
        self._drafts = pays


def adaptive_loop(drafter: LookupDrafter, target: Target, trees: bool = False) -> SpeculativeLoop:
    """The loop that chooses in each round, for a target that decodes alone meanwhile or for any other.

    Args:
        trees: drafter and target take trees, so that they are weighed too.
    """
    if hasattr(target, "halt"):
        return SwitchingLoop(drafter, cast(SwitchingTarget, target), trees)
    return AdaptiveLoop(drafter, target, trees)
