"""A cloud that decodes alone until a proposal has come further, as the edge sees it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from specbench.cloud.transport import protocol
from specbench.cloud.transport.answers import Dropped
from specbench.cloud.transport.channel import ChannelLostError
from specbench.cloud.transport.remote_target import RemotePending, RemoteTarget
from specbench.cloud.transport.replies import Reply, Sent
from specbench.results.records import Round
from specbench.speculation.overtaking import take_overtaken, take_verdict
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Request


class SwitchingTarget(RemoteTarget):
    """As `RemoteTarget`, and `next` says what comes next where proposals are sent into a stream.

    Each proposal names the token where it starts. What the cloud has said alone by the time it arrives is held
    against it, by the cloud and, once that has come here, by the edge too. So both know which proposals are
    overtaken, which are refuted, and with what an epoch begins, without a word more.
    """

    _source: Sent | None = None
    """The frame in reply to which the cloud decodes alone."""

    def begin(self, request: Request) -> Round:
        """Prefill the prompt and commit the target's first token."""
        self.halt()  # of a text that was given up
        return super().begin(request)

    def send(self, proposal: Proposal) -> RemotePending:
        """Send a proposal, into a stream too."""
        self.submit(proposal)
        return self._in_flight[-1]

    @property
    def has_next(self) -> bool:
        """Whether `next` need not wait."""
        return self._connection.has_reply(*self._expected())

    def next(self) -> Round:
        """What the cloud commits next: the oldest proposal's verdict, or a token that it says before that.

        With nothing in flight and no stream it is asked to decode alone. The verdict is that on what the cloud
        had not said before; `pending.is_over` says of others that they were overtaken or are void.
        """
        while True:
            try:
                self._send_in_flight()
                if not self._expected():
                    self._source = self._connection.send(self._decode_frame)
                return self._taken(self._connection.receive(*self._expected()))
            except ChannelLostError as error:
                self._connection.recover(error)

    def halt(self) -> None:
        """Have the cloud decode no further; whoever asked for this text reads it no more."""
        expected = [each.sent for each in self._in_flight if each.sent] + self._expected()
        known = [sent for sent in expected if sent.epoch == self._connection.epoch]
        self._source = self._ahead = None
        self._in_flight.clear()
        if not known:
            return
        self._epoch = None  # the cloud is ahead
        with suppress(ChannelLostError):
            self._connection.ask(protocol.Stop)
            for sent in known:
                self._connection.expect_nothing(sent)

    def _expected(self) -> list[Sent]:
        """The frames that are answered next: first by a stream, then by a verdict."""
        if self._ahead:
            self._source = self._take_ahead()
        if self._source and self._source.epoch != self._connection.epoch:
            self._source = None
        oldest = self._in_flight[0].sent if self._in_flight else None
        return [sent for sent in (self._source, oldest) if sent]

    def _start_of(self, pending: RemotePending) -> int | None:
        if not self.goes_on:
            return None
        before = self._in_flight.index(pending)
        return len(self._committed) + sum(len(self._in_flight[at].proposal) for at in range(before))

    def _taken(self, reply: Reply) -> Round:
        sent = self._in_flight[0].sent if self._in_flight else None
        if sent and sent.number != reply.frame.number:
            sent = None
        if isinstance(reply.frame, Dropped):  # what made it void would have come before it
            raise ChannelLostError("a part of the text is missing")
        commit = self.take(reply, sent)
        if sent:
            oldest, gone = take_verdict(self._in_flight, commit)
            proposal = oldest.proposal
            commit = replace(commit, refused=proposal.refused(commit))
            if not proposal.stands(commit):
                self._epoch_of_text += (commit.accepted or 0) < len(proposal)
            self._stream_from(sent if proposal.goes_on and not proposal.stands(commit) else None)
            if self._source is None:
                self._connection.expect_nothing(sent)
        else:
            is_refuted, gone = take_overtaken(self._in_flight, commit.tokens[0])
            self._epoch_of_text += is_refuted
        wasted = sum(map(self._forget, gone))
        if commit.finish_reason:
            self._stream_from(None)
            wasted += self._drop_in_flight()
        return replace(commit, wasted_bytes=wasted + self._connection.disregarded_bytes() or None)

    def _stream_from(self, sent: Sent | None) -> None:
        """The cloud decodes alone in reply to this frame, and to none before it."""
        if self._source:
            self._connection.expect_nothing(self._source)
        self._source = sent

    def _forget(self, pending: RemotePending) -> int:
        """Wait for a proposal's verdict no more; returns the bytes that were sent for it."""
        if pending.sent is None:
            return 0
        self._connection.disregard(pending.sent)
        return pending.sent.bytes_up
