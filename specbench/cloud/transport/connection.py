"""The edge's side of one connection: numbered requests, their replies, and a new connection when it is lost."""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from specbench.clock import now_ms
from specbench.cloud.transport import answers, fields, protocol
from specbench.cloud.transport.channel import Channel, ChannelLostError
from specbench.cloud.transport.facts import Facts
from specbench.cloud.transport.handshake import greeted
from specbench.cloud.transport.replies import Reply, Sent
from specbench.engine.threads import release_compute_threads
from specbench.errors import CloudLostError, ExitCode, SpecbenchError

logger = logging.getLogger(__name__)

PATIENCE_S = 30.0
LONGEST_PAUSE_S = 5.0
MOST_LOSSES = 5


class Connection:
    """Sends frames and finds their replies; connects when first needed, and again when the channel is lost.

    Args:
        connect: opens a channel.
        tokenizer_sha256: of the edge's copy of the target's tokenizer.
        accept: raises `SpecbenchError` when the cloud is not the one that the profile means.
        patience_s: how long a lost cloud is looked for; `None` is for ever.
    """

    def __init__(
        self,
        connect: Callable[[], Channel],
        tokenizer_sha256: str,
        accept: Callable[[Facts], None],
        patience_s: float | None = PATIENCE_S,
    ) -> None:
        self._connect = connect
        self._tokenizer_sha256 = tokenizer_sha256
        self._accept = accept
        self._patience_s = self._whole_patience_s = patience_s
        self._channel: Channel | None = None
        self._facts: Facts | None = None
        self._loss: ChannelLostError | None = None  # of the present channel, seen while reading
        self._texts = 0
        self._fruitless = 0
        self._disregarded_bytes = 0
        self.epoch = 0
        self.answers = 0
        """How many frames the cloud has sent that answer something."""
        self.interruptions = 0
        """How often a text was disturbed by the loss of a channel, its own or an earlier one's."""

    @property
    def is_open(self) -> bool:
        """Whether the cloud has been reached."""
        return self._facts is not None

    @property
    def has_given_up(self) -> bool:
        """Whether the time allowed for reconnecting has passed without success."""
        return self._patience_s == 0

    @property
    def facts(self) -> Facts:
        """What the cloud says of itself; connects first if need be.

        Raises:
            SpecbenchError: there is no cloud, it refuses the edge, or it is another than the profile means.
        """
        self._connected()
        assert self._facts is not None
        return self._facts

    @property
    def channel(self) -> Channel:
        """What carries the frames now; connects first if need be."""
        return self._connected()

    def new_text(self) -> int:
        """A name for a place where texts are decoded."""
        self._texts += 1
        return self._texts

    def send(self, build: Callable[[int], protocol.Up]) -> Sent:
        """Send a frame that is made with its number.

        Raises:
            ChannelLostError: the cloud is gone.
        """
        channel = self.channel
        self._number += 1
        message = protocol.encode(build(self._number))
        self._waiting[self._number] = deque()
        sent_ms = now_ms()
        channel.send(message)
        return Sent(self._number, self.epoch, len(message), sent_ms, channel.uplink_ms)

    def expect_nothing(self, sent: Sent) -> None:
        """The frame has no (further) reply that matters."""
        self._waiting.pop(sent.number, None)

    def disregard(self, sent: Sent) -> None:
        """The frame's one reply is still to come, and does not matter."""
        arrived = self._waiting.pop(sent.number, None) if sent.epoch == self.epoch else None
        if arrived:
            self._disregarded_bytes += sum(size for _, size, *_ in arrived)
        elif arrived is not None:
            self._disregarded.add(sent.number)

    def disregarded_bytes(self) -> int:
        """Bytes of such replies that have come since this was last asked."""
        found, self._disregarded_bytes = self._disregarded_bytes, 0
        return found

    def has_reply(self, *sent: Sent) -> bool:
        """Whether a reply to one of these frames is here already."""
        with suppress(TimeoutError, ChannelLostError):
            while not any(map(self._has_come, sent)):
                self._take(0)
        return self._loss is not None or any(map(self._has_come, sent))

    def _has_come(self, sent: Sent) -> bool:
        return sent.epoch != self.epoch or bool(self._waiting.get(sent.number))

    def receive(self, *sent: Sent) -> Reply:
        """The next reply to the first of these frames that has one.

        Raises:
            ChannelLostError: the cloud is gone, or makes no sense.
            SpecbenchError: it refuses the frame, with its reason.
        """
        if any(each.epoch != self.epoch for each in sent):
            raise ChannelLostError("the connection that carried the question is gone")
        started = now_ms()
        if not any(map(self._has_come, sent)):
            with suppress(TimeoutError):
                self._take(0)
        was_here = any(map(self._has_come, sent))
        if not was_here and self.channel.shares_process:
            release_compute_threads()
        while not any(map(self._has_come, sent)):
            try:
                self._take(self.channel.silence_s)
            except TimeoutError:
                raise ChannelLostError(f"received nothing for {self.channel.silence_s:.0f} s") from None
        first = next(filter(self._has_come, sent))
        frame, size, downlink_ms, came_ms = self._waiting[first.number].popleft()
        arrived = now_ms()
        known_ms = came_ms if was_here else arrived
        if isinstance(frame, answers.Refused):
            self._waiting.pop(first.number)
            raise SpecbenchError(f"the server refused: {frame.reason}", "see the server's output", ExitCode.RUN)
        elapsed_ms = None if known_ms is None else known_ms - first.sent_ms
        return Reply(frame, size, downlink_ms, arrived - started, elapsed_ms)

    def went_on(self) -> None:
        """A text has new tokens: what is lost from now on is lost over another step."""
        self._fruitless = 0

    def ask(self, build: Callable[[int], protocol.Up]) -> Reply:
        """Send a frame and wait for its one reply; errors as of `send` and `receive`."""
        sent = self.send(build)
        reply = self.receive(sent)
        self.expect_nothing(sent)
        return reply

    def insist(self, build: Callable[[int], protocol.Up]) -> Reply:
        """As `ask`, again as often as the connection is lost."""
        while True:
            try:
                return self.ask(build)
            except ChannelLostError as error:
                self.recover(error)

    def recover(self, error: ChannelLostError) -> None:
        """Connect again, after longer and longer pauses.

        Raises:
            CloudLostError: the cloud did not come back in time, or is lost again and again.
            SpecbenchError: it came back as another, or refuses the edge.
        """
        self._hang_up()
        self.interruptions += 1
        self._fruitless += 1
        if self._fruitless > MOST_LOSSES:
            if self._patience_s is not None:
                raise CloudLostError(
                    f"the cloud was lost {MOST_LOSSES} times in the same step: {error}",
                    "see its output, then resume with 'specbench run --resume RUN'",
                    ExitCode.RUN,
                )
            time.sleep(LONGEST_PAUSE_S)  # it is there each time, so nothing else slows this down
        logger.warning("lost the cloud: %s; reconnecting", error)
        started, pause_s = time.monotonic(), 0.1
        while True:
            try:
                self._channel = self._greeted()
                logger.info("reconnected to the cloud")
                return
            except ChannelLostError as still:
                error = still
            spent_s = time.monotonic() - started
            if self._patience_s is not None and spent_s > self._patience_s:
                self._patience_s = 0.0  # who asks again is told at once, unless it is back
                raise CloudLostError(
                    f"lost the cloud and could not reconnect within {spent_s:.0f} s: {error}",
                    "start it again, then resume with 'specbench run --resume RUN'",
                    ExitCode.RUN,
                )
            time.sleep(random.uniform(0.5, 1.0) * pause_s)  # so that many edges do not come back as one
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def close(self) -> None:
        """Say goodbye, if anyone is there."""
        if self._channel:
            try:
                self._number += 1
                self._channel.send(protocol.encode(protocol.Close(self._number)))
            except ChannelLostError:
                pass
        self._hang_up()

    def _connected(self) -> Channel:
        if self._channel is None:
            try:
                self._channel = self._greeted()
            except ChannelLostError as error:
                if self._patience_s is not None and not self.is_open:
                    raise SpecbenchError(
                        f"cannot connect to the cloud: {error}",
                        "check that 'specbench serve' is running there",
                        ExitCode.RUN,
                    ) from error
                if self.has_given_up:
                    self.interruptions += 1
                    raise CloudLostError(
                        f"lost the cloud and could not reconnect: {error}", exit_code=ExitCode.RUN
                    ) from error
                self.recover(error)
        assert self._channel is not None
        return self._channel

    def _hang_up(self) -> None:
        if self._channel:
            self._channel.close()
        self._channel = self._loss = None
        self.epoch += 1

    def _greeted(self) -> Channel:
        """A channel over which both sides have said who they are."""
        self._number, self._waiting, self._disregarded = 1, {1: deque[tuple]()}, set[int]()
        channel = self._connect()
        try:
            self._facts = greeted(channel, self._tokenizer_sha256, self._facts, self._accept)
        except (fields.ProtocolError, TimeoutError) as error:
            channel.close()
            raise ChannelLostError(str(error) or "nothing came") from error
        except BaseException:
            channel.close()
            raise
        self._patience_s = self._whole_patience_s
        return channel

    def _take(self, timeout_s: float | None) -> None:
        """Receive one message and put it where it is waited for; a loss is told to all who ask later."""
        if self._loss:
            raise self._loss
        try:
            self._receive(timeout_s)
        except ChannelLostError as error:
            self._loss = error
            raise

    def _receive(self, timeout_s: float | None) -> None:
        channel = self.channel
        message = channel.receive(timeout_s)
        try:
            frame = protocol.decode_down(message)
        except fields.ProtocolError as error:
            raise ChannelLostError(str(error)) from error
        if isinstance(frame, answers.Working):
            return
        if isinstance(frame, answers.Refused) and frame.is_over:
            raise ChannelLostError(f"the server refused: {frame.reason}")
        if frame.number in self._disregarded:
            self._disregarded.remove(frame.number)
            self._disregarded_bytes += len(message)
            return
        if frame.number not in self._waiting:
            raise ChannelLostError(f"an answer to frame {frame.number} came, which asked for none")
        self.answers += not isinstance(frame, answers.Metered)  # asked of each text, and no part of it
        self._waiting[frame.number].append((frame, len(message), channel.downlink_ms, channel.came_ms))
