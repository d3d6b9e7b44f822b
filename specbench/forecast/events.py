"""What a virtual run did, event by event, and the clock on which the events of one edge take their time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from specbench.clock import VirtualClock
from specbench.stats.prices import Charge, Prices


class Asked(NamedTuple):
    """A request left the edge.

    Args:
        work: what the target computes for it.
        trip: what crosses the link for it, both ways.
    """

    work: tuple[Charge, ...]
    trip: Charge


class Awaited(NamedTuple):
    """The edge waited for the answer to its oldest open request."""


class Streamed(NamedTuple):
    """The target went on by itself, by `work`, and its `answer` came as a part of a stream."""

    work: tuple[Charge, ...]
    answer: Charge


Event = Charge | Asked | Awaited | Streamed
"""A charge that stands for itself is what the edge computed."""


@dataclass
class OpenRequest:
    """A request under way: when the target begins and ends its work, and how long the answer then takes."""

    begins_ms: float
    ends_ms: float
    answer_ms: float

    @property
    def due_ms(self) -> float:
        """When the answer is at the edge."""
        return self.ends_ms + self.answer_ms

    @property
    def computed_ms(self) -> float:
        """What the target took."""
        return self.ends_ms - self.begins_ms


class Timeline:
    """Lets a clock advance by what events of one edge take, where nobody else has its target.

    Requests are computed in turn. While the edge drafts and the target computes, each slows the other down by
    what the cost table says, which is nothing on two machines.
    """

    def __init__(self, prices: Prices, clock: VirtualClock) -> None:
        self.prices = prices
        self._clock = clock
        self._events: list[Event] = []
        self._requests: deque[OpenRequest] = deque()
        self._free_ms = 0.0

    def take(self, event: Event) -> OpenRequest | None:
        """Let an event take its time; returns the request that it began or waited for."""
        self._events.append(event)
        if isinstance(event, Asked):
            return self._ask(event)
        if isinstance(event, Awaited):
            request = self._requests.popleft()
            self._clock.now_ms = max(self._clock.now_ms, request.due_ms)
            return request
        if isinstance(event, Streamed):  # what is streamed overlaps with the work before it
            self._clock.advance(max(self.prices.sum_of(event.work), self.prices.of(event.answer)))
        else:
            self._compute(self.prices.of(event))
        return None

    def taken(self) -> tuple[Event, ...]:
        """The events since this was last asked."""
        events, self._events = tuple(self._events), []
        return events

    def _ask(self, event: Asked) -> OpenRequest:
        up_ms, down_ms = self.prices.ways(event.trip)
        begins_ms = max(self._clock.now_ms + up_ms, self._free_ms)
        self._free_ms = begins_ms + self.prices.sum_of(event.work)
        request = OpenRequest(begins_ms, self._free_ms, down_ms)
        self._requests.append(request)
        return request

    def _compute(self, ms: float) -> None:
        """Compute on the edge, slower while the target does so too, which then ends later."""
        edge, target = self.prices.overlap_slowdowns
        for request in self._requests if edge > 1 or target > 1 else ():
            alone_ms = min(ms, max(0.0, request.begins_ms - self._clock.now_ms))
            self._clock.advance(alone_ms)
            ms -= alone_ms
            left_ms = request.ends_ms - self._clock.now_ms
            if left_ms <= 0 or ms <= 0:
                continue
            both_ms = min(ms * edge, left_ms * target)
            late_ms = both_ms * (1 - 1 / target)
            self._clock.advance(both_ms)
            ms -= both_ms / edge
            request.ends_ms += late_ms
            self._free_ms += late_ms
        self._clock.advance(ms)


def elapsed_ms(events: Iterable[Event], prices: Prices) -> float:
    """How long events take from an idle start."""
    clock = VirtualClock()
    timeline = Timeline(prices, clock)
    for event in events:
        timeline.take(event)
    return clock.now_ms


def charges_of(events: Iterable[Event]) -> Iterable[Charge]:
    """Everything that the events are charged for, wherever it is computed."""
    for event in events:
        if isinstance(event, Charge):
            yield event
        elif isinstance(event, Asked):
            yield from (*event.work, event.trip)
        elif isinstance(event, Streamed):
            yield from (*event.work, event.answer)
