"""The target as an edge sees it when it runs elsewhere: `speculation.target.LocalTarget`, in frames."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from specbench.cloud.transport import protocol
from specbench.cloud.transport.channel import ChannelLostError
from specbench.cloud.transport.connection import Connection
from specbench.cloud.transport.place import RemotePlace, asked
from specbench.cloud.transport.protocol import Up
from specbench.cloud.transport.replies import Reply, Sent
from specbench.engine.session import Block, Passed
from specbench.errors import SpecbenchError
from specbench.profile import Options
from specbench.results.records import Round
from specbench.speculation import rules
from specbench.speculation.proposal import NO_DRAFT, Proposal
from specbench.speculation.request import Pending, Request


class RemoteTarget(RemotePlace):
    """Commits tokens of one text at a time, computed by the cloud.

    The edge keeps the committed ids, so that a text goes on over a new connection where it was: what was under
    way is asked again, and the cloud reads the committed tokens as a prompt.
    """

    streams = True
    """As of `speculation.target.LocalTarget`: the cloud sends what comes next without being asked."""

    def __init__(
        self, connection: Connection, options: Options, rolls_back: bool, draft: str | None = None
    ) -> None:
        self._pending: RemotePending | None = None
        self._ahead: Sent | None = None
        """A `Decode` that was sent right behind its `Begin`: what the cloud says alone pays one round trip."""
        self._committed: list[int] = []
        self._has_begun = False
        super().__init__(connection, options, rolls_back, draft)

    def begin(self, request: Request) -> Round:
        """Prefill the prompt and commit the target's first token."""
        if self._pending:  # of a text that was given up
            self._pending.result()
        if self._ahead:
            self._stop(self._take_ahead())
        self._request = request
        self._committed = list(request.prompt_ids)
        self._trusted = self._cached = 0
        self._draws = (0, 0, 0)
        self._start(request)
        pending = self._ask(lambda number: protocol.Begin(number, self._text, *asked(request)))
        if pending.is_sent and (not self._rolls_back or self._draft is not None):
            with suppress(ChannelLostError):  # the result finds out too
                self._ahead = self._connection.send(self._decode_frame)
        commit = pending.result()
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
        """Send a draft on its way and return at once.

        Raises:
            RuntimeError: a verification is under way for this text.
        """
        self._demand_idle()
        proposal = proposal or NO_DRAFT
        packed = tuple(distribution.packed() for distribution in proposal.distributions)
        tokens = tuple(proposal.tokens)
        return self._ask(lambda number: protocol.Verify(number, self._text, tokens, packed))

    def verified(self, proposal: Proposal) -> Generator[Block, Passed, Round]:
        """`verify` for the loop; its passes are the cloud's business."""
        return self.verify(proposal)
        yield

    def trust(self, tokens: Sequence[int]) -> Round:
        """Commit drafted tokens without a look at them; the cloud is told, and nobody waits for it."""
        self._demand_idle()
        kept, finish_reason = rules.cut(tokens, self.remaining, self._request.stop_ids)
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
        commit = self._commit(reply, sent, len(self._committed))
        self._connection.went_on()
        frame = reply.of(protocol.Committed)
        self._committed.extend(frame.tokens)
        self._trusted, self._cached = 0, frame.cached
        self._draws = frame.coins, frame.own, frame.proposals
        self._has_begun = commit.finish_reason is None
        return commit

    def exchange(self, build: Callable[[int], Up], sent: Sent | None) -> Round:
        """Commit what the reply to a frame says, asked again as often as the connection is lost.

        Args:
            sent: the frame, where it has been sent.
        """
        while True:
            try:
                if sent is None:
                    self._ready()
                    sent = self._connection.send(build)
                reply = self._connection.receive(sent)
                self._connection.expect_nothing(sent)
                return self.take(reply, sent)
            except ChannelLostError as error:
                self._connection.recover(error)
                sent = None

    def finished(self) -> None:
        """The frame under way has been answered."""
        self._pending = None

    def _ask(self, build: Callable[[int], Up]) -> RemotePending:
        try:
            self._ready()
            sent = self._connection.send(build)
        except ChannelLostError:
            sent = None  # whoever waits for the result deals with it
        self._pending = RemotePending(self, self._connection, build, sent)
        return self._pending

    def _demand_idle(self) -> None:
        if self._pending:
            raise RuntimeError("a verification of this text is under way")

    def _resume(self) -> None:
        if self._has_begun:
            request, tokens = self._request, tuple(self._committed[len(self._request.prompt_ids) :])
            self._connection.ask(
                lambda number: protocol.Resume(number, self._text, *asked(request), tokens, *self._draws)
            )


class RemotePending:
    """A verification that the cloud was asked for."""

    def __init__(
        self, target: RemoteTarget, connection: Connection, build: Callable[[int], Up], sent: Sent | None
    ) -> None:
        self._target = target
        self._connection = connection
        self._build = build
        self._sent = sent

    @property
    def is_sent(self) -> bool:
        """Whether the frame is under way."""
        return self._sent is not None

    @property
    def is_done(self) -> bool:
        """Whether `result` need not wait for the cloud's answer."""
        return self._sent is None or self._connection.has_reply(self._sent)

    def result(self) -> Round:
        """Wait for the reply, and commit what the cloud accepted. To be called once."""
        self._target.finished()
        sent, self._sent = self._sent, None
        return self._target.exchange(self._build, sent)
