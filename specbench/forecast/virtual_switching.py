"""The traced target as one that decodes alone until a proposal has come further."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf

from specbench.clock import VirtualClock, now_ms
from specbench.engine.rereading import Reread
from specbench.forecast.events import Streamed
from specbench.forecast.traced_drafter import Text
from specbench.forecast.virtual import VirtualTarget, standing
from specbench.profile.decoding import LONGEST_DRAFT
from specbench.results.records import Round
from specbench.speculation.overtaking import left_of, take_overtaken, take_verdict
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Request
from specbench.stats.prices import Charge, Prices

SOON_MS = 1e-9


@dataclass(eq=False)
class Sent:
    """A proposal on its way, or at the cloud.

    Args:
        proposal: what of it is still to be judged, as the edge knows it.
        whole: as it was sent, to start behind `start` tokens of the text.
        epoch: how many epochs had ended, as the edge knew it.
    """

    proposal: Proposal
    whole: Proposal
    start: int
    epoch: int
    arrives_ms: float
    is_over: bool = False


class Line:
    """The cloud and the way there and back, for one text; its time passes while the edge waits or computes.

    The cloud looks at what has arrived when a pass has ended, as `cloud.server` does: it drops what is refuted
    or overtaken, judges what goes on from each other in one pass, and else decodes alone where it is to.

    Args:
        position: tokens of the text, of which the edge has just received the last one.
    """

    def __init__(self, text: Text, prices: Prices, clock: VirtualClock, position: int) -> None:
        self._text, self._prices, self._clock = text, prices, clock
        self.position = position
        self._is_streaming = True
        self._reread = Reread(prices.costs.target.restores_state)
        self._inbox: deque[Sent] = deque()
        self._outbox: deque[tuple[float, Round]] = deque()
        self._reading: list[tuple[Sent, Proposal]] | None = None
        """What a pass reads: proposals, or none where the cloud decodes alone."""
        self._left_ms = self._took_ms = 0.0
        self._ended = -1  # the newest epoch that the cloud knows to have ended
        self._free_ms = 0.0  # when the way back is free again
        behind_ms = prices.ways(Charge("trip", 0, 1))[1]
        self._look()
        self._left_ms -= behind_ms  # the cloud went on while the first token was on its way
        while self._reading is not None and self._left_ms <= 0:
            left_ms = self._left_ms
            self._took_ms = prices.pass_ms(1)
            self._finish(clock.now_ms + left_ms)
            self._look()
            self._left_ms += left_ms

    def send(self, sent: Sent) -> None:
        """A proposal leaves the edge."""
        self._inbox.append(sent)

    @property
    def has_answer(self) -> bool:
        """Whether something is here that the edge has not taken."""
        return bool(self._outbox) and self._outbox[0][0] <= self._clock.now_ms + SOON_MS

    def answer(self) -> Round:
        """What comes next, and before that as much time as it takes to come."""
        while not self.has_answer:
            self._pass(0.0, self._outbox[0][0] if self._outbox else inf)
        return self._outbox.popleft()[1]

    def compute(self, ms: float) -> None:
        """Let the edge compute."""
        while ms > SOON_MS:
            ms = self._pass(ms, inf)

    def _pass(self, edge_ms: float, until_ms: float) -> float:
        """Let time pass until something happens; returns what the edge has left to compute."""
        self._look()
        is_both = self._reading is not None and edge_ms > 0
        edge, target = self._prices.overlap_slowdowns if is_both else (1.0, 1.0)
        spans = [until_ms - self._clock.now_ms]
        if edge_ms > 0:
            spans.append(edge_ms * edge)
        if self._reading is not None:
            spans.append(self._left_ms * target)
        elif self._inbox and not self._has_arrived:  # behind the end of the text nothing is looked at
            spans.append(self._inbox[0].arrives_ms - self._clock.now_ms)
        ms = max(0.0, min(spans))
        assert ms < inf, "the edge waits for a cloud that waits for the edge"
        self._clock.advance(ms)
        self._left_ms -= ms / target
        self._took_ms += ms
        if self._reading is not None and self._left_ms <= SOON_MS:
            self._finish(self._clock.now_ms)
        return edge_ms - ms / edge

    def _look(self) -> None:
        """Begin the next pass where there is something to read."""
        while self._reading is None and self.position < len(self._text.ids):
            if self._has_arrived:
                self._begin(self._group())
            elif self._is_streaming:
                self._reading = []
                self._left_ms = self._pass_ms(1) + self._prices.stream_ms
                self._took_ms = -self._prices.stream_ms
            else:
                return

    @property
    def _has_arrived(self) -> bool:
        return bool(self._inbox) and self._inbox[0].arrives_ms <= self._clock.now_ms + SOON_MS

    def _group(self) -> list[Sent]:
        group = [self._inbox.popleft()]
        tokens = len(group[0].whole)
        while self._has_arrived and group[-1].whole.continues:
            tokens += len(self._inbox[0].whole)
            if self._inbox[0].epoch != group[0].epoch or tokens > LONGEST_DRAFT:
                break
            group.append(self._inbox.popleft())
        return group

    def _begin(self, group: list[Sent]) -> None:
        """Begin the pass over what of these is to be judged."""
        if group[0].epoch <= self._ended:
            return
        said = self._text.ids[group[0].start : self.position]
        left = left_of([sent.whole for sent in group], said, self._is_streaming)
        if left is None:
            self._ended = group[0].epoch
            return
        found = list(zip(group[len(group) - len(left) :], left, strict=True))
        if found:
            self._reading, self._is_streaming = found, False
            self._left_ms = self._pass_ms(_rows(proposal for _, proposal in found))
            self._took_ms = 0.0

    def _pass_ms(self, count: int) -> float:
        return sum(map(self._prices.pass_ms, self._reread.passes(count)))

    def _finish(self, now: float) -> None:
        reading, self._reading = self._reading, None
        again = self._reread.again
        if not reading:
            self._reread.judged(1, 0)
            self._commit(now, 1, Round((), verify_ms=self._took_ms, streamed=True))
            return
        rows = unread = _rows(proposal for _, proposal in reading)
        for index, (sent, proposal) in enumerate(reading):
            following = self._text.ids[self.position : self.position + len(proposal) + 1]
            accepted = standing(proposal, following)
            is_whole = accepted == len(proposal)
            depth = proposal.depth if proposal.parents else None
            part = Round((), drafted=len(proposal), depth=depth, verify_ms=0.0 if index else self._took_ms)
            part = replace(part, replayed_tokens=0 if index and again else again)
            unread -= accepted + 1
            if proposal.continues or len(reading) > 1:
                part = replace(part, pass_tokens=0 if index else rows)
            own = not (is_whole and proposal.continues)
            part = self._commit(now, accepted + own, part, accepted)
            if own or part.finish_reason or index + 1 == len(reading):
                self._reread.judged(rows, 0 if is_whole else max(unread, 0))
            if own or part.finish_reason:
                if not is_whole:
                    self._ended = sent.epoch
                self._is_streaming = proposal.goes_on
                return

    def _commit(self, now: float, count: int, part: Round, accepted: int | None = None) -> Round:
        tokens = self._text.ids[self.position : self.position + count]
        self.position += len(tokens)
        reason = None
        if self.position == len(self._text.ids):
            reason = "stop" if self._text.stop_ids else "length"
        known = None if accepted is None else min(accepted, len(tokens))
        part = replace(part, tokens=tokens, finish_reason=reason, accepted=known)
        half_ms = self._prices.ways(Charge("trip", 0, 0))[1] - self._prices.answer_ms(0)
        self._free_ms = max(now + half_ms, self._free_ms) + self._prices.answer_ms(len(tokens))
        self._outbox.append((self._free_ms, part))
        return part


class VirtualSwitchingTarget(VirtualTarget):
    """As `cloud.transport.switching_target.SwitchingTarget`, where the loop sets `goes_on`; else its parent."""

    goes_on = False

    def begin(self, request: Request) -> Round:
        """Read the prompt; the first token."""
        part = super().begin(request)
        self._flying: deque[Sent] = deque()
        self._epoch, self._streams = 0, True
        if self.goes_on:
            self._line = Line(self._text, self._timeline.prices, self._timeline.clock, self._position)
            self._timeline.compute = self._line.compute
        return part

    @property
    def has_next(self) -> bool:
        """Whether `next` need not wait."""
        return self._line.has_answer

    def send(self, proposal: Proposal) -> Sent:
        """Send a proposal, into a stream too."""
        start = self._position + sum(len(sent.proposal) for sent in self._flying)
        up_ms = self._timeline.prices.ways(Charge("trip", len(proposal)))[0]
        sent = Sent(proposal, proposal, start, self._epoch, now_ms() + up_ms)
        self._flying.append(sent)
        self._line.send(sent)
        return sent

    def next(self) -> Round:
        """What the cloud commits next."""
        before_ms = now_ms()
        if not self._flying and not self._streams:
            self.send(Proposal(goes_on=True))
            self._flying.clear()
            self._streams = True
        part = self._line.answer()
        part = replace(part, wait_ms=now_ms() - before_ms)
        if not self._flying:
            part = replace(part, drafted=None, accepted=None)
        charges = [Charge("pass", 1), Charge("stream")] if part.drafted is None else []
        if part.drafted is None:
            is_refuted, _ = take_overtaken(self._flying, part.tokens[0])
            self._epoch += is_refuted
        else:
            if part.pass_tokens != 0:
                read = part.pass_tokens or part.drafted + 1
                charges = [Charge("pass", read + (part.replayed_tokens or 0))]
            self._line.compute(self._timeline.prices.round_ms)
            oldest, _ = take_verdict(self._flying, part)
            self._streams = oldest.proposal.goes_on and not oldest.proposal.stands(part)
            if not oldest.proposal.stands(part):
                self._epoch += (part.accepted or 0) < len(oldest.proposal)
        self._timeline.note(Streamed(tuple(charges), Charge("answer", len(part.tokens))))
        return self._commit(part)

    def halt(self) -> None:
        """Nothing: who gives a text up takes its clock along."""


def _rows(proposals: Iterable[Proposal]) -> int:
    """What a pass over them reads: the token before them too, where none follows the last one."""
    listed = list(proposals)
    return sum(map(len, listed)) + (not listed[-1].continues)
