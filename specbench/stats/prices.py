"""The time of each part of a round, looked up in a cost table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

from specbench.profile.cost_table import Costs


class Charge(NamedTuple):
    """A part of a round that takes time: its kind and up to two counts; see `Prices.of`."""

    kind: str
    first: int = 0
    second: int = 0


WIDEST = 66  # the longest draft that a profile allows, with the token before it and one to spare


class Prices:
    """Milliseconds of every part, looked up once for each width."""

    def __init__(self, costs: Costs) -> None:
        draft, target, link = costs.draft, costs.target, costs.link
        self._sizes = costs.bytes
        self.costs = costs
        self.verify_ms = [0.0] + [at(target.verify_ms, width) / target.speed for width in range(1, WIDEST + 1)]
        self.step_ms = draft.step_ms / draft.speed
        self.read_ms = draft.read_ms / draft.speed
        # Beside the target, the draft has the target's hardware.
        self.colocated_step_ms = (costs.colocated_step_ms or draft.step_ms) / target.speed
        self.round_ms, self.stream_ms = costs.round_ms, costs.stream_ms / target.speed
        self.overlap_slowdowns = draft.overlap_slowdown, target.overlap_slowdown
        self._prompts = {
            "draft prefill": (draft.prefill_ms, draft.speed),
            "draft prefill there": (draft.prefill_ms, target.speed),
            "target prefill": (target.prefill_ms, target.speed),
        }
        self.rtt_ms, self.overhead_ms = link.rtt_ms, link.overhead_ms
        self._up = 8e-3 / link.uplink_mbps if link.uplink_mbps else 0.0  # milliseconds a byte
        self._down = 8e-3 / link.downlink_mbps if link.downlink_mbps else 0.0

    def pass_ms(self, width: int) -> float:
        """A pass of the target over so many tokens."""
        if width <= WIDEST:
            return self.verify_ms[width]
        return at(self.costs.target.verify_ms, width) / self.costs.target.speed

    def draft_ms(self, drafted: int, unread: int) -> float:
        """Drafting `drafted` tokens, the first of them behind `unread` new ones."""
        return drafted * self.step_ms + (unread - 1) * self.read_ms if drafted else 0.0

    def sending_ms(self, drafted: int) -> float:
        """A draft on the uplink, without latency."""
        return self._up * self._sizes.up(drafted)

    def answer_ms(self, committed: float) -> float:
        """Committed tokens on the downlink, without latency."""
        return self._down * self._sizes.down(committed)

    def bytes_of(self, charge: Charge) -> float:
        """What crosses the link for one part, both ways."""
        if charge.kind == "trip":
            return self._sizes.up(charge.first) + self._sizes.down(charge.second)
        return self._sizes.down(charge.first) if charge.kind == "answer" else 0.0

    def ways(self, trip: Charge) -> tuple[float, float]:
        """A round trip on the link, as the way there and the way back."""
        half_ms = (self.rtt_ms + self.overhead_ms) / 2
        return half_ms + self.sending_ms(trip.first), half_ms + self.answer_ms(trip.second)

    def of(self, charge: Charge) -> float:
        """Milliseconds of one part; 0 where the table has no value, which prompts need not have."""
        kind, first, second = charge
        if kind == "draft":
            return self.draft_ms(first, second)
        if kind == "draft there":
            return self.draft_ms(first, second) * self.colocated_step_ms / self.step_ms
        if kind == "pass":
            return self.pass_ms(first)
        if kind == "trip":
            return sum(self.ways(charge))
        if kind == "round":
            return self.round_ms
        if kind == "stream":
            return self.stream_ms
        if kind == "answer":
            return self.answer_ms(first)
        table, speed = self._prompts[kind]
        return 0.0 if table is None else at(table, first) / speed

    def knows(self, charges: Iterable[Charge]) -> bool:
        """Whether the table has a time for each of them."""
        return all(kind not in self._prompts or self._prompts[kind][0] is not None for kind, _, _ in charges)

    def sum_of(self, charges: Iterable[Charge]) -> float:
        """What all of them take one after the other."""
        return sum(map(self.of, charges))


def at(by_count: Mapping[int, float], count: int) -> float:
    """A time between two known counts, by a straight line; beyond the last one its slope goes on.

    Below the first count the time is that of the first. A slope is never taken for negative beyond the table.
    """
    known = sorted(by_count.items())
    if count <= known[0][0] or len(known) == 1:
        return known[0][1]
    for (left, low), (right, high) in pairwise(known):
        if count <= right:
            return low + (high - low) * (count - left) / (right - left)
    (left, low), (right, high) = known[-2:]
    return high + max(0.0, (high - low) / (right - left)) * (count - right)
