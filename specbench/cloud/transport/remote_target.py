"""The target as an edge sees it when it runs elsewhere: `speculation.target.LocalTarget`, in frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from specbench.cloud.transport import answers, protocol
from specbench.cloud.transport.channel import ChannelLostError
from specbench.cloud.transport.connection import Connection
from specbench.cloud.transport.fields import packed_parents
from specbench.cloud.transport.place import RemotePlace, asked
from specbench.cloud.transport.protocol import Up
from specbench.cloud.transport.readings import readings
from specbench.cloud.transport.replies import Reply, Sent
from specbench.engine.session import Block, Passed
from specbench.errors import SpecbenchError
from specbench.profile import Options
from specbench.results.records import Round
from specbench.speculation.proposal import NO_DRAFT, Proposal
from specbench.speculation.request import Needs, Pending, Request, TopIds

if TYPE_CHECKING:
    import torch


class RemoteTarget(RemotePlace):
    """Commits tokens of one text at a time, computed by the cloud.

    The edge keeps the committed ids, so that a text goes on over a new connection where it was: what was under
    way is asked again, and the cloud reads the committed tokens as a prompt.
    """

    streams = True
    """As of `speculation.target.LocalTarget`: the cloud sends what comes next without being asked."""

    top_ids: TopIds = ()
    """As of `speculation.target.LocalTarget`."""

    hidden_states: torch.Tensor | None = None
    """As of `speculation.target.LocalTarget`."""

    def __init__(
        self,
        connection: Connection,
        options: Options,
        rolls_back: bool,
        draft: str | None = None,
        needs: Needs | None = None,
    ) -> None:
        self._in_flight: deque[RemotePending] = deque()
        self._ahead: Sent | None = None
        """A `Decode` that was sent behind what is in flight: what the cloud says alone pays no round trip."""
        self.goes_on = not rolls_back or draft is not None
        """Whether the cloud is asked to decode right behind the prompt."""
        self._committed: list[int] = []
        self._has_begun = False
        super().__init__(connection, options, rolls_back, draft, needs)

    def begin(self, request: Request) -> Round:
        """Prefill the prompt and commit the target's first token."""
        self._drop_in_flight()  # of a text that was given up
        if self._ahead:
            self._stop(self._take_ahead())
        self._request = request
        self._committed = list(request.prompt_ids)
        self._trusted = self._cached = self._epoch_of_text = 0
        self._draws = (0, 0, 0)
        self._start(request)
        pending = self._ask(lambda number: protocol.Begin(number, self._text, *asked(request)))
        if self.goes_on and self._is_known and self._in_flight[0].is_sent:
            with suppress(ChannelLostError):  # the result finds out too
                self._ahead = self._connection.send(self._decode_frame)
        commit = replace(pending.result(), wasted_bytes=None)  # what came late is about the text before
        if self._ahead:  # both questions crossed together
            commit = replace(commit, bytes_up=(commit.bytes_up or 0) + self._ahead.bytes_up)
        if commit.finish_reason and self._ahead:  # there is nothing to decode, and it says so
            with suppress(ChannelLostError, SpecbenchError):
                self._connection.receive(self._take_ahead())
        return commit

    def _start(self, request: Request) -> None:
        self._has_begun = False
        super()._start(request)

    @property
    def remaining(self) -> int:
        """Tokens of the budget that are not spent."""
        return self._request.max_new_tokens - (len(self._committed) - len(self._request.prompt_ids))

    def verify(self, proposal: Proposal | None = None) -> Round:
        """Check drafted tokens in one pass; commit those accepted and one token of the target's own."""
        return self.submit(proposal).result()

    def submit(self, proposal: Proposal | None = None) -> Pending:
        """Send a draft on its way and return at once; behind one with `continues` another one may follow.

        Raises:
            RuntimeError: a verification is under way for this text, and nothing may follow it.
        """
        if self._in_flight and not self._in_flight[-1].proposal.continues:
            self._demand_idle()
        return self._ask(None, NO_DRAFT if proposal is None else proposal)

    def verify_frame(self, pending: RemotePending, number: int) -> Up:
        """The frame that asks for the verdict on a proposal."""
        proposal = pending.proposal
        packed = tuple(distribution.packed() for distribution in proposal.distributions)
        start, goes_on = self._start_of(pending), proposal.goes_on
        fields = number, self._text, tuple(proposal.tokens), packed, self._epoch_of_text, proposal.continues
        if proposal.parents:
            return protocol.VerifyTree(*fields, start, goes_on, packed_parents(proposal.parents))
        return protocol.Verify(*fields, start, goes_on)

    def _start_of(self, pending: RemotePending) -> int | None:
        """Tokens before a proposal, where the cloud must be told."""
        return None

    def verified(self, proposal: Proposal) -> Generator[Block, Passed, Round]:
        """`verify` for the loop; its passes are the cloud's business."""
        return self.verify(proposal)
        yield

    def trust(self, tokens: Sequence[int]) -> Round:
        """Commit drafted tokens without a look at them; the cloud is told, and nobody waits for it."""
        self._demand_idle()
        kept, finish_reason = self._request.cut(self._committed, tokens)
        self._committed.extend(kept)
        self._trusted += len(kept)
        self._has_begun = finish_reason is None
        bytes_up: int | None = None
        if self._is_known:
            try:
                sent = self._connection.send(lambda number: protocol.Trust(number, self._text, kept))
                self._connection.expect_nothing(sent)
                bytes_up = sent.bytes_up
            except ChannelLostError:
                pass  # the next frame finds out too, and hands the tokens over
        return Round(kept, finish_reason, unverified=len(kept), bytes_up=bytes_up)

    def decode(self) -> Iterator[Round]:
        """Go on alone, token by token, to the end of the text: one request, streamed."""
        self._demand_idle()
        sent = self._take_ahead() if self._ahead else None
        known = sent if sent and sent.epoch == self._connection.epoch else None
        yield from self._stream(self._decode_frame, self.take, known)

    def _decode_frame(self, number: int) -> protocol.Decode:
        return protocol.Decode(number, self._text)

    def _take_ahead(self) -> Sent:
        sent, self._ahead = self._ahead, None
        assert sent is not None
        return sent

    def check(self) -> None:
        """Assert that the cloud's cache holds the committed tokens but the last, and but the trusted ones."""
        expected = len(self._committed) - 1 - self._trusted
        if self._cached != expected:
            raise AssertionError(f"the target's cache holds {self._cached} tokens and should hold {expected}")

    def take(self, reply: Reply, sent: Sent | None) -> Round:
        """Add to the text what a reply says; `sent` is the frame that asked, for the first reply to it.

        Raises:
            ChannelLostError: it does not stand behind the text so far.
        """
        frame = reply.of(answers.Committed)
        read = len(frame.tokens) if self._has_begun else len(self._request.prompt_ids)
        found = readings(frame, self._needs, read)
        commit = self._commit(reply, sent, len(self._committed))
        self._connection.went_on()
        self.top_ids, self.hidden_states = found
        self._committed.extend(frame.tokens)
        self._trusted, self._cached = 0, frame.cached
        self._draws = frame.coins, frame.own, frame.proposals
        self._has_begun = commit.finish_reason is None
        return commit

    def result_of(self, pending: RemotePending) -> Round:
        """Commit what the reply to the oldest frame in flight says.

        All that is in flight is sent again as often as the connection is lost. A refusal drops what was sent
        behind the refused draft; nobody waits for the cloud's answers to that.
        """
        if pending is not self._in_flight[0]:
            raise RuntimeError("an older verification of this text has not been taken")
        try:
            commit = self._answer_to(pending)
        except BaseException:
            self._drop_in_flight()
            raise
        self._in_flight.popleft()
        pending.sent = None  # it has been answered
        if commit.drafted is not None:
            commit = replace(commit, refused=pending.proposal.refused(commit))
        if pending.proposal.stands(commit):
            return commit
        self._epoch_of_text += (commit.accepted or 0) < len(pending.proposal)
        wasted = self._drop_in_flight() + self._connection.disregarded_bytes()
        return replace(commit, wasted_bytes=wasted or None)

    def _answer_to(self, pending: RemotePending) -> Round:
        while True:
            try:
                self._send_in_flight()
                assert pending.sent is not None
                reply = self._connection.receive(pending.sent)
                self._connection.expect_nothing(pending.sent)
                return self.take(reply, pending.sent)
            except ChannelLostError as error:
                self._connection.recover(error)

    def _send_in_flight(self) -> None:
        """Send what is in flight and has not been sent over this connection, the oldest first.

        Raises:
            ChannelLostError: it is lost.
        """
        self._ready()
        for pending in self._in_flight:
            if not pending.is_sent:
                pending.sent = self._connection.send(pending.build)

    def _drop_in_flight(self) -> int:
        """Forget what is in flight; returns the bytes that were sent for it."""
        wasted = 0
        for pending in self._in_flight:
            if pending.sent is not None:
                self._connection.disregard(pending.sent)
                wasted += pending.sent.bytes_up
        self._in_flight.clear()
        return wasted

    def _ask(self, build: Callable[[int], Up] | None, proposal: Proposal = NO_DRAFT) -> RemotePending:
        self._in_flight.append(RemotePending(self, self._connection, build, proposal))
        with suppress(ChannelLostError):  # whoever waits for the result deals with it
            self._send_in_flight()
        return self._in_flight[-1]

    def _demand_idle(self) -> None:
        if self._in_flight:
            raise RuntimeError("a verification of this text is under way")

    def _resume(self) -> None:
        self._epoch_of_text = 0
        if self._has_begun:
            request, tokens = self._request, tuple(self._committed[len(self._request.prompt_ids) :])
            self._connection.ask(
                lambda number: protocol.Resume(number, self._text, *asked(request), tokens, *self._draws)
            )


class RemotePending:
    """A verification that the cloud was asked for.

    Args:
        build: makes the frame with its number, as often as it has to be sent; `None` for a `Verify`.

    Attributes:
        proposal: what of it is still to be judged.
        sent: the frame, where it has been sent.
        is_over: nobody waits for its verdict any more.
    """

    is_over = False

    def __init__(
        self,
        target: RemoteTarget,
        connection: Connection,
        build: Callable[[int], Up] | None,
        proposal: Proposal,
    ) -> None:
        self._target = target
        self._connection = connection
        self.build, self.proposal = build or partial(target.verify_frame, self), proposal
        self.sent: Sent | None = None

    @property
    def is_sent(self) -> bool:
        """Whether the present connection has carried the frame."""
        return self.sent is not None and self.sent.epoch == self._connection.epoch

    @property
    def is_done(self) -> bool:
        """Whether `result` need not wait for the cloud's answer."""
        return self.sent is None or self._connection.has_reply(self.sent)

    def result(self) -> Round:
        """Wait for the reply, and commit what the cloud accepted. To be called once, of the oldest one."""
        return self._target.result_of(self)
