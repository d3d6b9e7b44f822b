"""A channel behind the modelled link: messages wait in real time, so that what overlaps really overlaps."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass

from specbench.clock import now_ms
from specbench.cloud.link.modelled import Link
from specbench.cloud.transport.channel import Channel

LOOK_S = 0.5


@dataclass(frozen=True)
class _Message:
    data: bytes
    due_ms: float
    took_ms: float


class LinkedChannel(Channel):
    """Delays every message of another channel by what the link says; both directions at the same time.

    One thread hands over what is sent when its time has come, another one receives and notes when a message set
    out; `receive` waits out the rest.
    """

    def __init__(self, channel: Channel, link: Link) -> None:
        self._channel = channel
        self._link = link
        self.shares_process = channel.shares_process
        if channel.silence_s is not None:
            self.silence_s = channel.silence_s + link.longest_ms / 1000
        self._outbox: queue.SimpleQueue[_Message | None] = queue.SimpleQueue()
        self._inbox: queue.SimpleQueue[_Message | Exception] = queue.SimpleQueue()
        self._next: _Message | None = None
        self._error: Exception | None = None
        self._closing = threading.Event()
        link.begin(0, now_ms())
        self._uplink = threading.Thread(target=self._hand_over, name="specbench uplink", daemon=True)
        self._downlink = threading.Thread(target=self._listen, name="specbench downlink", daemon=True)
        self._uplink.start()
        self._downlink.start()

    def begin(self, seed: int) -> None:
        """Empty the link; every method meets the same one on the same prompt."""
        self._link.begin(seed, now_ms())

    def send(self, message: bytes) -> None:
        """Put a message into the uplink."""
        if self._error:
            raise self._error
        sent_ms = now_ms()
        due_ms = self._link.uplink.deliver_at_ms(sent_ms, len(message))
        self.uplink_ms = due_ms - sent_ms
        self._outbox.put(_Message(message, due_ms, self.uplink_ms))

    def receive(self, timeout_s: float | None = None) -> bytes:
        """The next message out of the downlink."""
        deadline_ms = None if timeout_s is None else now_ms() + 1000 * timeout_s
        message = self._peek(timeout_s)
        wait_ms = message.due_ms - now_ms()
        if deadline_ms is not None and message.due_ms > max(deadline_ms, now_ms()):
            time.sleep(max(0.0, (deadline_ms - now_ms()) / 1000))
            raise TimeoutError
        if wait_ms > 0:
            time.sleep(wait_ms / 1000)
        self._next = None
        self.downlink_ms = message.took_ms
        return message.data

    def close(self) -> None:
        """Send what is still under way at once, and hang up."""
        self._closing.set()
        self._outbox.put(None)
        self._uplink.join(LOOK_S)  # a peer that reads nothing is left with the rest
        self._channel.close()

    def _peek(self, timeout_s: float | None) -> _Message:
        if self._next is None:
            if self._error and self._inbox.empty():
                raise self._error
            try:
                item = self._inbox.get(timeout_s != 0, timeout_s)
            except queue.Empty:
                raise TimeoutError from None
            if isinstance(item, Exception):
                raise item
            self._next = item
        return self._next

    def _hand_over(self) -> None:
        while message := self._outbox.get():
            self._closing.wait(max(0.0, (message.due_ms - now_ms()) / 1000))
            try:
                self._channel.send(message.data)
            except Exception as error:
                self._fail(error)
                return

    def _listen(self) -> None:
        while not self._closing.is_set():
            try:
                data = self._channel.receive(LOOK_S)
            except TimeoutError:
                continue
            except Exception as error:
                self._fail(error)
                return
            arrived_ms = now_ms()
            due_ms = self._link.downlink.deliver_at_ms(arrived_ms, len(data))
            self._inbox.put(_Message(data, due_ms, due_ms - arrived_ms))

    def _fail(self, error: Exception) -> None:
        """Let the user's thread see what happened in one of these."""
        self._error = error
        self._inbox.put(error)
