"""A place at the cloud where one text at a time is decoded, as an edge sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from specbench.cloud.transport import answers, protocol
from specbench.cloud.transport.answers import Committed, CommittedMore, Opened
from specbench.cloud.transport.channel import ChannelLostError
from specbench.cloud.transport.connection import Connection
from specbench.cloud.transport.fields import Budget, GrammarFields, MediaFields, Seed, Tokens
from specbench.cloud.transport.protocol import Up
from specbench.cloud.transport.replies import Reply, Sent
from specbench.profile import Options
from specbench.results.records import Round
from specbench.speculation.grammar import demand_llguidance
from specbench.speculation.recomputation import Recomputed
from specbench.speculation.request import Needs, Request
from specbench.speculation.ties import Evidence, Pass


class RemotePlace:
    """Opens the place anew over every new connection; has whole texts and proofs computed there.

    Args:
        rolls_back: drafts will be verified.
        needs: what else is asked of the one that verifies.
        draft: the fingerprint of the draft that the cloud is to run; it then speculates in `decode`.
    """

    def __init__(
        self,
        connection: Connection,
        options: Options,
        rolls_back: bool,
        draft: str | None = None,
        needs: Needs | None = None,
    ) -> None:
        self._connection = connection
        self._options = options
        self._needs = needs or Needs()
        self._rolls_back, self._draft = rolls_back, draft
        self._text = connection.new_text()
        self._epoch: int | None = None
        self._counted = 0  # interruptions before this text began
        self.rtt_ms: float | None = None
        self.drafting: Opened | None = None
        """What the cloud said of the draft that it runs."""
        self._insist()  # what the cloud cannot do is refused before anything is timed

    def generate(self, request: Request) -> Iterator[Round]:
        """Answer a prompt by the cloud's `model.generate`, streamed; has nothing to do with the text begun."""
        self._demand_idle()
        self._start(request)
        known = length = len(request.prompt_ids)

        def build(number: int) -> Up:
            nonlocal length
            # After a loss `generate` runs anew: it cannot be resumed, and says the same again.
            length = len(request.prompt_ids)
            return protocol.Generate(number, self._text, *asked(request))

        def take(reply: Reply, sent: Sent | None) -> Round | None:
            nonlocal known, length
            commit = self._commit(reply, sent, length)
            length += len(commit.tokens)
            if length <= known:
                return None
            known = length
            self._connection.went_on()
            return commit

        yield from self._stream(build, take)

    def prove(
        self, request: Request, text: Sequence[int], passes: Sequence[Pass], pair: tuple[int, int]
    ) -> Evidence:
        """Have a position computed twice; see `speculation.ties.evidence`."""
        fields = *asked(request), tuple(text), tuple(passes), pair
        reply = self._asked_aside(lambda number: protocol.Prove(number, self._text, *fields))
        return reply.of(answers.Proven).evidence

    def recompute(self, request: Request, text: Sequence[int]) -> Recomputed:
        """Have a text held against a pass without a cache; see `speculation.recomputation`."""
        fields = *asked(request), tuple(text)
        reply = self._asked_aside(lambda number: protocol.Recompute(number, self._text, *fields))
        return reply.of(answers.Held).recomputed

    def _asked_aside(self, build: Callable[[int], Up]) -> Reply:
        """The reply to what is no step of a text, asked again as often as the connection is lost."""
        while True:
            try:
                self._ready()
                return self._connection.ask(build)
            except ChannelLostError as error:
                self._connection.recover(error)

    def _start(self, request: Request) -> None:
        self._counted = self._connection.interruptions
        self._connection.channel.begin(request.seed)

    def _demand_idle(self) -> None:
        """Refuse another text while one is under way here."""

    def _resume(self) -> None:
        """Hand over the text that is under way here, where there is one."""

    def _stream(
        self,
        build: Callable[[int], Up],
        take: Callable[[Reply, Sent | None], Round | None],
        sent: Sent | None = None,
    ) -> Iterator[Round]:
        """One request and its replies, to the end of the text.

        Args:
            sent: the request, where it was sent ahead: nobody waits for its way, and its bytes are counted.
        """
        is_first = False
        try:
            while True:
                try:
                    if sent is None:
                        self._ready()
                        sent, is_first = self._connection.send(build), True
                    commit = take(self._connection.receive(sent), sent if is_first else None)
                except ChannelLostError as error:
                    self._connection.recover(error)
                    sent = None
                    continue
                is_first = False
                if commit is None:
                    continue
                if commit.finish_reason:
                    self._connection.expect_nothing(sent)
                    sent = None
                yield commit
                if commit.finish_reason:
                    return
        finally:
            if sent:
                self._stop(sent)

    def _stop(self, sent: Sent) -> None:
        """Read a stream no further."""
        self._epoch = None  # the cloud is ahead, and must go back if this text is to go on
        if sent.epoch != self._connection.epoch:
            return
        try:
            self._connection.ask(protocol.Stop)
            self._connection.expect_nothing(sent)
        except ChannelLostError:
            pass  # it has stopped too, then

    def _commit(self, reply: Reply, sent: Sent | None, length: int) -> Round:
        """What a reply says, which is to stand behind `length` tokens of prompt and text."""
        frame = reply.of(Committed)
        if frame.cached != length + len(frame.tokens) - 1:  # all replies of a stream have the same number
            raise ChannelLostError("a part of the text is missing, or came twice")
        more = frame if isinstance(frame, CommittedMore) else None
        uplink_ms, downlink_ms = sent.uplink_ms if sent else None, reply.downlink_ms
        rtt_ms = None
        if sent and reply.elapsed_ms is not None:
            rtt_ms = self.rtt_ms = max(reply.elapsed_ms - frame.busy_us / 1000, 0.0)
        elif uplink_ms is not None and downlink_ms is not None:
            self.rtt_ms = uplink_ms + downlink_ms
        return Round(
            frame.tokens,
            answers.FINISH_REASONS[frame.finish],
            drafted=frame.drafted,
            accepted=None if frame.drafted is None else frame.accepted,
            depth=more.depth if more else None,
            forced=more.forced if more else None,
            forced_accepted=more.forced_accepted if more else None,
            replayed_tokens=more.replayed_tokens if more else None,
            snapshot_bytes=more.snapshot_bytes if more else None,
            verify_ms=frame.verify_us / 1000,
            uplink_ms=uplink_ms,
            downlink_ms=downlink_ms,
            wait_ms=reply.waited_ms,
            bytes_up=sent.bytes_up if sent else 0,
            bytes_down=reply.bytes_down,
            feature_bytes=(len(more.hidden_states) if more else 0) if self._needs.features else None,
            draft_ms=frame.draft_us / 1000 if frame.draft_us else None,
            shared=frame.shared,
            pass_ms=frame.pass_us / 1000 if frame.pass_us else None,
            pass_tokens=frame.pass_tokens,
            wasted_verify_ms=frame.wasted_us / 1000 if frame.wasted_us else None,
            rtt_ms=rtt_ms,
            streamed=sent is None,
        )

    @property
    def _is_known(self) -> bool:
        """Whether the cloud, on the present connection, holds this text."""
        return self._epoch == self._connection.epoch

    def _insist(self) -> None:
        while True:
            try:
                return self._ready()
            except ChannelLostError as error:
                self._connection.recover(error)

    def _ready(self) -> None:
        """Tell the cloud what it must know before the next frame: after a connection was lost, everything.

        Raises:
            ChannelLostError: it is lost again.
        """
        _ = self._connection.channel
        if self._is_known:
            return
        if self._epoch is not None and self._connection.interruptions == self._counted:
            self._connection.interruptions += 1  # the loss was another text's, and this one pays for it too
        decoding = self._options.decoding.model_dump()
        speculative = self._options.speculative.model_dump()
        epoch, features = self._connection.epoch, self._needs.features
        opened = self._connection.ask(
            lambda number: protocol.Open(
                number,
                self._text,
                decoding,
                speculative,
                self._rolls_back,
                self._draft,
                self._needs.trees,
                self._needs.top_k,
                (features.layers, features.size, features.dtype) if features else None,
            )
        )
        if self._draft is not None:
            self.drafting = opened.of(answers.Opened)
        self._resume()
        self._epoch = epoch


def asked(request: Request) -> tuple[Tokens, Budget, Tokens, Seed, GrammarFields | None, MediaFields | None]:
    """A request as the fields of a frame."""
    stop_ids, grammar = tuple(sorted(request.stop_ids)), request.grammar
    return (
        request.prompt_ids,
        request.max_new_tokens,
        stop_ids,
        request.seed,
        (grammar.kind, grammar.text, demand_llguidance()) if grammar else None,
        (request.media.drafted, request.media.files) if request.media else None,
    )
