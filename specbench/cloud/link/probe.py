"""What an emulated link really does: round trip and TCP throughput, over sockets of our own."""

from __future__ import annotations

import contextlib
import socket
import statistics
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from specbench.clock import now_ms
from specbench.cloud.link.emulated import ADDRESSES, CLOUD, EDGE, inside

ECHOES = 30
MESSAGE = bytes(64)
CHUNK = bytes(65_536)
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Measured:
    """Median round trip of 64 bytes over TCP, and what TCP carries each way, its headers not counted."""

    rtt_ms: float
    uplink_mbps: float
    downlink_mbps: float


def measure(seconds: float) -> Measured:
    """Measure the link that is up; each direction is filled for so many seconds.

    Raises:
        OSError: no connection comes about, or it breaks.
    """
    with inside(CLOUD):
        listener = socket.create_server((ADDRESSES[CLOUD], 0))
    with listener:
        listener.settimeout(TIMEOUT_S)
        rtt_ms = _round_trip(*_pair(listener))
        edge, cloud = _pair(listener)
        uplink_mbps = _throughput(edge, cloud, seconds)
        edge, cloud = _pair(listener)
        downlink_mbps = _throughput(cloud, edge, seconds)
    return Measured(rtt_ms, uplink_mbps, downlink_mbps)


def _pair(listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    """A connection across the link: the edge's end and the cloud's."""
    with inside(EDGE):
        edge = socket.create_connection(listener.getsockname(), TIMEOUT_S)
    cloud, _ = listener.accept()
    for end in (edge, cloud):
        end.settimeout(TIMEOUT_S)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return edge, cloud


def _round_trip(edge: socket.socket, cloud: socket.socket) -> float:
    def echo() -> None:
        while data := cloud.recv(len(MESSAGE)):
            cloud.sendall(data)

    with cloud, _beside(echo):
        trips = []
        with edge:
            for _ in range(ECHOES):
                started = now_ms()
                edge.sendall(MESSAGE)
                left = len(MESSAGE)
                while left:
                    left -= len(edge.recv(left)) or left
                trips.append(now_ms() - started)
        return statistics.median(trips)


def _throughput(source: socket.socket, sink: socket.socket, seconds: float) -> float:
    """Mbit/s that arrive at `sink` in so many seconds after the first bytes."""

    def fill() -> None:
        with contextlib.suppress(OSError):  # the sink hangs up when it has seen enough
            while True:
                source.sendall(CHUNK)

    with source, _beside(fill):
        with sink:
            sink.recv(len(CHUNK))
            started, received = now_ms(), 0
            while now_ms() - started < 1000 * seconds:
                received += len(sink.recv(len(CHUNK)))
            elapsed_ms = now_ms() - started
        return received * 8 / elapsed_ms / 1000


@contextlib.contextmanager
def _beside(work: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    thread.join(TIMEOUT_S)
