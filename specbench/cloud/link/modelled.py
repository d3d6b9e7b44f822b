"""The modelled link: when a message that is sent now arrives. Arithmetic alone; nothing waits here."""

from __future__ import annotations

import math
import random

from specbench.cloud.link.link_trace import Schedule, read_trace
from specbench.profile import LinkSpec

PACKET_BYTES = 1448
"""What one TCP packet carries on an Ethernet path."""

RETRANSMISSION_MS = 200.0
"""Linux's least retransmission timeout above the round trip (TCP_RTO_MIN; RFC 6298 says a second)."""


class Pipe:
    """One direction. Messages go in one after the other at the rate, then travel; none overtakes another.

    A lost packet is sent again after a round trip and `RETRANSMISSION_MS`, twice that when it is lost again
    (RFC 6298, 5.5), and whatever follows waits for it, as on one TCP connection.

    Args:
        schedule: rate and one-way delay; its time 0 is `origin_ms`.
        jitter_ms: the delay of a message lies evenly between so much less and so much more.
        loss: share of packets lost.
        seed: of jitter and loss.
    """

    def __init__(self, schedule: Schedule, jitter_ms: float, loss: float, seed: str, origin_ms: float) -> None:
        self._schedule = schedule
        self._jitter_ms = jitter_ms
        self._loss = loss
        self._random = random.Random(seed)
        self._origin_ms = origin_ms
        self._free_ms = self._last_ms = -math.inf

    def deliver_at_ms(self, now_ms: float, size_bytes: int) -> float:
        """When a message of so many bytes arrives that is sent at `now_ms`; times are asked in their order."""
        self._free_ms = self._through(max(now_ms, self._free_ms), size_bytes * 8)
        _, delay_ms, _ = self._schedule.at(self._free_ms - self._origin_ms)
        jitter_ms = self._random.uniform(-self._jitter_ms, self._jitter_ms)
        lost_ms = self._resending_ms(delay_ms, math.ceil(size_bytes / PACKET_BYTES))
        arrives_ms = self._free_ms + max(0.0, delay_ms + jitter_ms) + lost_ms
        self._last_ms = max(self._last_ms, arrives_ms)
        return self._last_ms

    def _through(self, start_ms: float, bits: float) -> float:
        """When the last bit is in the pipe, over all changes of the rate."""
        time_ms = start_ms - self._origin_ms
        while True:
            rate_mbps, _, end_ms = self._schedule.at(time_ms)
            bits_per_ms = rate_mbps * 1000
            if bits_per_ms and bits <= bits_per_ms * (end_ms - time_ms):
                return self._origin_ms + time_ms + bits / bits_per_ms
            bits -= bits_per_ms * (end_ms - time_ms)
            time_ms = end_ms

    def _resending_ms(self, delay_ms: float, packets: int) -> float:
        waited_ms, timeout_ms = 0.0, 2 * delay_ms + RETRANSMISSION_MS
        is_lost = self._random.random() >= (1 - self._loss) ** packets
        while is_lost:
            waited_ms += timeout_ms
            timeout_ms *= 2
            is_lost = self._random.random() < self._loss
        return waited_ms


class Link:
    """Both directions, each a pipe of its own.

    Raises:
        SpecbenchError: the spec's trace cannot be used.
    """

    def __init__(self, spec: LinkSpec) -> None:
        self._spec = spec
        if spec.trace is not None:
            self._up = self._down = read_trace(spec.trace)
        else:
            self._up = Schedule.constant(spec.uplink_mbps, spec.rtt_ms / 2)
            self._down = Schedule.constant(spec.downlink_mbps, spec.rtt_ms / 2)
        self.begin(0, 0.0)

    @property
    def rtt_ms(self) -> float:
        """Round trip of an empty message; the median over a trace."""
        return self._up.rtt_ms

    @property
    def longest_ms(self) -> float:
        """What a short message may take without anything being lost: a round trip, and a whole trace."""
        length_ms = self._up.length_ms
        return 2 * max(self._up.delays_ms) + (length_ms if math.isfinite(length_ms) else 0.0)

    def begin(self, seed: int, now_ms: float) -> None:
        """An empty link, for the next prompt.

        Args:
            seed: the request's, so that every method meets the same link on the same prompt: the same place of
                the trace, the same jitter.
        """
        length_ms = self._up.length_ms
        into_ms = random.Random(f"{seed}/trace").uniform(0, length_ms) if math.isfinite(length_ms) else 0.0
        jitter_ms, loss, origin_ms = self._spec.jitter_ms, self._spec.loss, now_ms - into_ms
        self.uplink = Pipe(self._up, jitter_ms, loss, f"{seed}/uplink", origin_ms)
        self.downlink = Pipe(self._down, jitter_ms, loss, f"{seed}/downlink", origin_ms)
