"""Frames between two processes of one machine, read by the thread that waits for them.

A WebSocket has threads of its own at both ends, and each hands a frame on by waking another one, which takes
0.1 to 0.2 ms on an idle core. Here nobody stands between: two wake-ups a round, one a direction. Nobody spins
either: where both processes compute with all cores, who spins takes one from the other.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections import deque
from contextlib import suppress

from specbench.clock import now_ms
from specbench.cloud.transport.channel import Channel, ChannelLostError
from specbench.cloud.transport.fields import MAX_FRAME_BYTES
from specbench.cloud.transport.socket import SILENCE_S

HEADER = struct.Struct("<Id")
"""Bytes of the frame, and when it was sent by `now_ms`: processes of one machine have one clock."""
READ_BYTES = 1 << 16
SEND_S = 20.0


class Pipe:
    """One end of a pair of connected sockets. One thread may send while another one reads.

    Args:
        end: as of `socket.socketpair`.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._read = bytearray()
        self._frames: deque[tuple[bytes, float]] = deque()
        self._sending = threading.Lock()
        self._is_over = False

    def send(self, message: bytes, patience_s: float = SEND_S) -> None:
        """Write a frame.

        Raises:
            ChannelLostError: the other end is gone, or has read nothing for so long.
        """
        left = memoryview(HEADER.pack(len(message), now_ms()) + message)
        try:
            with self._sending:
                while left:
                    try:
                        left = left[self._end.send(left) :]
                    except BlockingIOError:
                        if not _is_ready(self._end, select.POLLOUT, patience_s):
                            raise ChannelLostError(f"it read nothing for {patience_s:.0f} s") from None
        except (OSError, ValueError) as error:
            raise ChannelLostError(str(error)) from error

    def receive(self, timeout_s: float | None = None) -> tuple[bytes, float]:
        """The next frame, and when it came: now if it was waited for, else when it was sent.

        Raises:
            TimeoutError: there is none yet.
            ChannelLostError: the other end is gone.
        """
        if self.is_empty():
            deadline_ms = None if timeout_s is None else now_ms() + 1000 * timeout_s
            while not self._frames:
                left_s = None if deadline_ms is None else max(0.0, (deadline_ms - now_ms()) / 1000)
                try:
                    is_ready = _is_ready(self._end, select.POLLIN, left_s)
                except (OSError, ValueError) as error:
                    raise ChannelLostError(str(error)) from error
                if not is_ready:
                    raise TimeoutError
                if self.is_empty() and self._is_over:
                    raise ChannelLostError("the other end of the pipe is closed")
            return self._frames.popleft()[0], now_ms()
        return self._frames.popleft()

    def is_empty(self) -> bool:
        """Whether no whole frame is here; looks, and does not wait."""
        while not self._frames and not self._is_over:
            try:
                found = self._end.recv(READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                found = b""
            self._is_over = not found
            self._read += found
            self._split()
        return not self._frames

    def close(self) -> None:
        """Hang up; whoever waits at either end hears of it."""
        with suppress(OSError):  # the other end did
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()

    def _split(self) -> None:
        while len(self._read) >= HEADER.size:
            size, sent_ms = HEADER.unpack_from(self._read)
            if size > MAX_FRAME_BYTES:
                self._is_over = True
                return
            end = HEADER.size + size
            if len(self._read) < end:
                return
            self._frames.append((bytes(self._read[HEADER.size : end]), sent_ms))
            del self._read[:end]


class PipeChannel(Channel):
    """The edge's end, to a server that it has started."""

    silence_s: float | None = SILENCE_S

    def __init__(self, end: socket.socket) -> None:
        self._pipe = Pipe(end)

    def send(self, message: bytes) -> None:
        """Write to the pipe."""
        self._pipe.send(message)

    def receive(self, timeout_s: float | None = None) -> bytes:
        """The next message."""
        message, self.came_ms = self._pipe.receive(timeout_s)
        return message

    def close(self) -> None:
        """Hang up."""
        self._pipe.close()


def _is_ready(end: socket.socket, event: int, timeout_s: float | None) -> bool:
    poll = select.poll()
    poll.register(end, event)
    return bool(poll.poll(None if timeout_s is None else 1000 * timeout_s))
