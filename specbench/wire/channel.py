"""What carries frames between edge and cloud: a thread of this process, or a WebSocket."""

from __future__ import annotations

import queue
from abc import ABC, abstractmethod

from specbench.clock import now_ms
from specbench.decoding.threads import model_thread, send_team_home
from specbench.wire.host import Host
from specbench.wire.service import Service


class ChannelLostError(Exception):
    """The other end is gone; whatever was under way must be asked again, over another channel."""


class Channel(ABC):
    """Carries whole messages both ways, in order.

    Attributes:
        uplink_ms: how long the last sent message took to arrive, `None` where that is not known; `downlink_ms`
            for the last one received.
        silence_s: how long the cloud may say nothing at all before it counts as gone; `None` is for ever.
        shares_process: whether the other end computes in a thread of this process.
    """

    uplink_ms: float | None = None
    downlink_ms: float | None = None
    silence_s: float | None = None
    shares_process: bool = False

    def begin(self, seed: int) -> None:
        """A new text begins; `seed` is its request's."""
        return

    @abstractmethod
    def send(self, message: bytes) -> None:
        """Give a message on its way, and return at once.

        Raises:
            ChannelLostError: the other end is gone.
        """

    @abstractmethod
    def receive(self, timeout_s: float | None = None) -> bytes:
        """The next message.

        Args:
            timeout_s: `None` waits for ever, 0 only looks.

        Raises:
            TimeoutError: there is none yet.
            ChannelLostError: the other end is gone.
        """

    @abstractmethod
    def close(self) -> None:
        """Hang up; the other end frees what it holds."""


class LocalChannel(Channel):
    """The service in a thread of this process: what a modelled link stands before where nothing else is."""

    shares_process = True

    def __init__(self, host: Host) -> None:
        self._inbox: queue.SimpleQueue[tuple[bytes, float] | None] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[bytes | BaseException] = queue.SimpleQueue()
        self._service = Service(host)
        self._thread = model_thread()
        self._thread.submit(self._serve)

    def send(self, message: bytes) -> None:
        """Wake the service."""
        self._inbox.put((message, now_ms()))

    def receive(self, timeout_s: float | None = None) -> bytes:
        """The service's next reply."""
        try:
            item = self._outbox.get(timeout_s != 0, timeout_s)
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(item, BaseException):
            self._outbox.put(item)  # for whoever asks again: nobody serves any more
            raise item
        return item

    def close(self) -> None:
        """End the thread."""
        self._inbox.put(None)
        self._thread.shutdown()

    def _serve(self) -> None:
        try:
            while item := self._inbox.get():
                replies = self._service.handle(*item)
                for reply in replies:
                    self._outbox.put(reply)
                    if not self._inbox.empty():  # the edge reads a stream no further
                        break
                replies.close()
                send_team_home()
        except BaseException as error:
            self._outbox.put(error)
        finally:
            self._service.close()
