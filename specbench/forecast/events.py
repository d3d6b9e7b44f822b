"""What a virtual run did, event by event, and the clock on which the events of one edge take their time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import NamedTuple

from specbench.clock import VirtualClock
from specbench.stats.prices import Charge, Prices


class Asked(NamedTuple):
    """A request left the edge.

    Args:
        work: what the target computes for it.
        trip: what crosses the link for it, both ways.
        follows: it goes on from the request before it, and the target reads both in one pass where it has not
            begun with that one.
        is_void: the request before it is refused, so that it is read only where it shares that pass.
    """

    work: tuple[Charge, ...]
    trip: Charge
    follows: bool = False
    is_void: bool = False


class Awaited(NamedTuple):
    """The edge waited for the answer to its oldest open request."""


class Forgotten(NamedTuple):
    """The edge's open requests are void, and it waits for none of them."""


class Streamed(NamedTuple):
    """The target went on by itself, by `work`, and its `answer` came as a part of a stream.

    What the edge computes meanwhile delays no stream, and is not slowed down by it.
    """

    work: tuple[Charge, ...]
    answer: Charge


Event = Charge | Asked | Awaited | Forgotten | Streamed
"""A charge that stands for itself is what the edge computed."""


@dataclass
class Pass:
    """Work of the target: when it begins and ends, and how many tokens it reads."""

    begins_ms: float
    ends_ms: float
    rows: int

    @property
    def computed_ms(self) -> float:
        """What the target takes."""
        return self.ends_ms - self.begins_ms

    def move(self, ms: float) -> None:
        """Begin later."""
        self.begins_ms += ms
        self.ends_ms += ms


@dataclass(frozen=True)
class OpenRequest:
    """A request under way: the pass that answers it, and how long the answer then takes.

    Args:
        work: `None` where the target drops it unread.
        is_first: of those that share the pass.
    """

    work: Pass | None
    answer_ms: float
    is_first: bool = True

    @property
    def computed_ms(self) -> float:
        """What the target takes for its pass."""
        return 0.0 if self.work is None else self.work.computed_ms

    @property
    def due_ms(self) -> float:
        """When the answer is at the edge."""
        return float("inf") if self.work is None else self.work.ends_ms + self.answer_ms


class Timeline:
    """Lets a clock advance by what events of one edge take, where nobody else has its target.

    Requests are computed in turn. While the edge drafts and the target computes, each slows the other down by
    what the cost table says, which is nothing on two machines.
    """

    def __init__(self, prices: Prices, clock: VirtualClock) -> None:
        self.prices = prices
        self.clock = clock
        self._events: list[Event] = []
        self._requests: deque[OpenRequest] = deque()
        self._passes: deque[Pass] = deque()
        self._streamed_ms: float | None = None
        """When the last part of a stream was at the edge, or what it follows; `None` is now."""
        self.compute: Callable[[float], None] = self._compute
        """Lets the edge compute for so many milliseconds."""

    def take(self, event: Event) -> OpenRequest | None:
        """Let an event take its time; returns the request that it began or waited for."""
        self._events.append(event)
        if isinstance(event, Asked):
            return self._ask(event)
        if isinstance(event, Awaited):
            request = self._requests.popleft()
            self.clock.now_ms = max(self.clock.now_ms, request.due_ms)
            self._streamed_ms = request.due_ms
            return request
        if isinstance(event, Forgotten):
            self._requests.clear()
            return None
        if isinstance(event, Streamed):  # what is streamed overlaps with the work before it
            before_ms = self.clock.now_ms if self._streamed_ms is None else self._streamed_ms
            took_ms = max(self.prices.sum_of(event.work), self.prices.of(event.answer))
            self._streamed_ms = before_ms + took_ms
            self.clock.now_ms = max(self.clock.now_ms, self._streamed_ms)
        else:
            self.compute(self.prices.of(event))
        return None

    def taken(self) -> tuple[Event, ...]:
        """The events since this was last asked."""
        events, self._events = tuple(self._events), []
        return events

    def note(self, event: Event) -> None:
        """Remember an event whose time was taken elsewhere."""
        self._events.append(event)

    def _ask(self, event: Asked) -> OpenRequest:
        self._streamed_ms = None
        up_ms, down_ms = self.prices.ways(event.trip)
        arrives_ms, rows = self.clock.now_ms + up_ms, _rows(event.work)
        last = self._passes[-1] if self._passes else None
        is_before = last is not None and bool(self._requests) and self._requests[-1].work is last
        if event.follows and is_before and last and last.begins_ms > arrives_ms:
            last.ends_ms += self.prices.pass_ms(last.rows + rows) - self.prices.pass_ms(last.rows)
            last.rows += rows
            request = OpenRequest(last, down_ms, is_first=False)
        elif event.is_void:
            request = OpenRequest(None, down_ms)
        else:
            begins_ms = max(arrives_ms, last.ends_ms if last else 0.0)
            last = Pass(begins_ms, begins_ms + self.prices.sum_of(event.work), rows)
            self._passes.append(last)
            request = OpenRequest(last, down_ms)
        self._requests.append(request)
        return request

    def _compute(self, ms: float) -> None:
        """Compute on the edge, slower while the target does so too, which then ends later."""
        edge, target = self.prices.overlap_slowdowns
        while len(self._passes) > 1 and self._passes[0].ends_ms <= self.clock.now_ms:
            self._passes.popleft()
        for index, work in enumerate(list(self._passes) if edge > 1 or target > 1 else ()):
            alone_ms = min(ms, max(0.0, work.begins_ms - self.clock.now_ms))
            self.clock.advance(alone_ms)
            ms -= alone_ms
            left_ms = work.ends_ms - self.clock.now_ms
            if left_ms <= 0 or ms <= 0:
                continue
            both_ms = min(ms * edge, left_ms * target)
            self.clock.advance(both_ms)
            ms -= both_ms / edge
            work.ends_ms += both_ms * (1 - 1 / target)
            self._delay_behind(index)
        self.clock.advance(ms)

    def _delay_behind(self, index: int) -> None:
        """Passes are computed in turn: one that ends later delays those behind it."""
        for before, work in pairwise(islice(self._passes, index, None)):
            work.move(max(0.0, before.ends_ms - work.begins_ms))


def _rows(work: Iterable[Charge]) -> int:
    return sum(charge.first for charge in work if charge.kind == "pass")


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
            yield from (() if event.is_void else (*event.work, event.trip))
        elif isinstance(event, Streamed):
            yield from (*event.work, event.answer)
