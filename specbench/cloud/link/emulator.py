"""A link made of real packets: forwards them between two TUN devices, with delay, rate, queue and loss.

A process of its own, started by `specbench link up` where the kernel has no netem; it ends when its devices go.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import select
import struct
import sys
from collections import deque

from specbench.clock import now_ms
from specbench.profile import LinkSpec

READY = "ready"
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
LARGEST_PACKET = 65_536
BATCH = 64
QUEUE_MS = 200.0
SMALLEST_QUEUE_BYTES = 64_000
PRIORITY = -10  # models on the same cores shall not hold packets up


class Direction:
    """Packets on their way: a queue before the rate, which drops what finds it full, and a delay behind it."""

    def __init__(self, spec: LinkSpec, rate_mbps: float | None, seed: str) -> None:
        self._delay_ms = spec.rtt_ms / 2
        self._jitter_ms = spec.jitter_ms
        self._loss = spec.loss
        self._bits_per_ms = None if rate_mbps is None else rate_mbps * 1000
        self._random = random.Random(seed)
        self._free_ms = self._last_ms = 0.0
        self._line: deque[tuple[float, bytes]] = deque()

    def offer(self, packet: bytes, arrived_ms: float) -> bool:
        """Take a packet in; False where it was lost, or the queue was full."""
        if self._random.random() < self._loss:
            return False
        sent_ms = arrived_ms
        if self._bits_per_ms:
            waiting_bytes = max(0.0, self._free_ms - arrived_ms) * self._bits_per_ms / 8
            queue_bytes = max(SMALLEST_QUEUE_BYTES, QUEUE_MS * self._bits_per_ms / 8)
            if waiting_bytes + len(packet) > queue_bytes:
                return False
            sent_ms = max(arrived_ms, self._free_ms) + len(packet) * 8 / self._bits_per_ms
            self._free_ms = sent_ms
        jitter_ms = self._random.uniform(-self._jitter_ms, self._jitter_ms)
        self._last_ms = max(self._last_ms, sent_ms + self._delay_ms + jitter_ms)
        self._line.append((self._last_ms, packet))
        return True

    @property
    def next_ms(self) -> float | None:
        """When the next packet is due."""
        return self._line[0][0] if self._line else None

    def due(self, until_ms: float) -> list[bytes]:
        """Take out the packets that have arrived by then."""
        packets = []
        while self._line and self._line[0][0] <= until_ms:
            packets.append(self._line.popleft()[1])
        return packets


def open_tun(name: str) -> int:
    """A TUN device that lives as long as the returned file descriptor; it may move to another namespace."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


def forward(edge: int, cloud: int, spec: LinkSpec) -> None:
    """Forward between two TUN devices until one of them is gone (`OSError`)."""
    uplink = Direction(spec, spec.uplink_mbps, "uplink")
    downlink = Direction(spec, spec.downlink_mbps, "downlink")
    ways = [(edge, uplink, cloud), (cloud, downlink, edge)]
    while True:
        due = [way.next_ms for _, way, _ in ways if way.next_ms is not None]
        wait_s = max(0.0, (min(due) - now_ms()) / 1000) if due else None
        readable, _, _ = select.select([edge, cloud], [], [], wait_s)
        for source, way, _ in ways:
            if source in readable:
                with contextlib.suppress(BlockingIOError):
                    for _ in range(BATCH):  # the other direction waits meanwhile
                        way.offer(os.read(source, LARGEST_PACKET), now_ms())
        for _, way, sink in ways:
            for packet in way.due(now_ms()):
                with contextlib.suppress(OSError):  # a device that is down, or whose queue is full, loses it
                    os.write(sink, packet)


def main() -> None:
    """Make the devices named on the command line, say so, and forward until they are gone."""
    edge, cloud, spec = sys.argv[1:]
    descriptors = open_tun(edge), open_tun(cloud)
    with contextlib.suppress(OSError):  # a container may not let us
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    print(READY, flush=True)
    with contextlib.suppress(OSError):
        forward(*descriptors, LinkSpec.model_validate_json(spec))


if __name__ == "__main__":
    main()
