"""What carries frames between edge and cloud."""

from __future__ import annotations

from abc import ABC, abstractmethod


class ChannelLostError(Exception):
    """The other end is gone; whatever was under way must be asked again, over another channel."""


class Channel(ABC):
    """Carries whole messages both ways, in order.

    Attributes:
        uplink_ms: how long the last sent message took to arrive, `None` where that is not known; `downlink_ms`
            for the last one received.
        came_ms: when the last received message set out or came, by `now_ms`, where the channel knows that.
        silence_s: how long the cloud may say nothing at all before it counts as gone; `None` is for ever.
        shares_process: whether the other end computes in a thread of this process.
    """

    uplink_ms: float | None = None
    downlink_ms: float | None = None
    came_ms: float | None = None
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
