"""One target that computes a pass at a time, and edges that follow the events of a virtual run: SimPy."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from specbench.forecast.events import Asked, Awaited, Event, Forgotten, Streamed
from specbench.stats.prices import Charge, Prices

if TYPE_CHECKING:
    import simpy

MOST_ROWS = 256  # tokens of one pass
UNSHARED = ("round", "stream")  # what each sequence takes for itself, while the target goes on

Waiting = tuple[tuple[Charge, ...], "simpy.Event"]


class Target:
    """One model that computes one pass at a time, for all that wait."""

    def __init__(self, env: simpy.Environment, prices: Prices) -> None:
        self._env, self._prices = env, prices
        self._waiting: deque[Waiting] = deque()
        self._prompts: deque[Waiting] = deque()
        self._idle: simpy.Event | None = None
        self.busy_ms, self.rows, self.passes = 0.0, 0, 0
        self._pass_ms = lru_cache(prices.pass_ms)
        env.process(self._run())

    def ask(self, work: tuple[Charge, ...]) -> simpy.Event:
        """Ask for a pass, drafts before it included, or for a prompt; the event is its end."""
        event = self._env.event()
        is_pass = any(charge.kind == "pass" for charge in work)
        (self._waiting if is_pass else self._prompts).append((work, event))
        if self._idle is not None:
            idle, self._idle = self._idle, None
            idle.succeed()
        return event

    def _run(self) -> Generator:
        while True:
            if not self._prompts and not self._waiting:
                self._idle = self._env.event()
                yield self._idle
            if self._prompts:
                work, event = self._prompts.popleft()
                took, ended = self._prices.sum_of(work), [event]
            else:
                took, ended = self._next_pass()
            yield self._env.timeout(took)
            self.busy_ms += took
            for event in ended:
                event.succeed()
            # Whoever streams is back at this moment, and joins those that waited.
            yield self._env.timeout(0)

    def _next_pass(self) -> tuple[float, list[simpy.Event]]:
        """All that wait, as many as fit: how long it takes, and whose it is."""
        rows = 0
        ended: list[simpy.Event] = []
        drafts: list = []
        while self._waiting and (not ended or rows + _width(self._waiting[0][0]) <= MOST_ROWS):
            work, event = self._waiting.popleft()
            rows += _width(work)
            ended.append(event)
            drafts += [self._prices.of(charge) for charge in work if charge.kind == "draft there"]
        self.rows, self.passes = self.rows + rows, self.passes + 1
        took = self._pass_ms(rows)
        if drafts:  # drafted together
            took += max(drafts) * self._pass_ms(len(drafts)) / self._pass_ms(1)
        return took, ended


def _width(work: Iterable[Charge]) -> int:
    return sum(charge.first for charge in work if charge.kind == "pass")


def follow(
    env: simpy.Environment, target: Target, prices: Prices, events: Sequence[Event]
) -> Generator[simpy.Event, object, None]:
    """Do what the events of one sequence say, behind its first token, on a target that others use too."""
    open_requests: deque[simpy.Event | None] = deque()
    first_ms = prices.answer_ms(1)
    arrived = env.now + first_ms
    for event, following in zip(events, (*events[1:], None), strict=True):
        if isinstance(event, Asked) and event.is_void:
            open_requests.append(None)
        elif isinstance(event, Asked):
            trip = _round_trip(env, target, prices, event)
            if isinstance(following, Awaited) and not open_requests:
                yield from trip  # which is faster to simulate than a process of its own
            else:
                open_requests.append(env.process(trip))
        elif isinstance(event, Awaited):
            if open_requests and (answered := open_requests.popleft()):
                yield answered
        elif isinstance(event, Forgotten):
            open_requests.clear()
        elif isinstance(event, Streamed):  # nothing waits for the edge, but a downlink may be slower
            yield target.ask(event.work)
            own_ms = prices.sum_of(charge for charge in event.work if charge.kind in UNSHARED)
            if own_ms:
                yield env.timeout(own_ms)
            arrived = max(arrived, env.now) + prices.of(event.answer)
        elif ms := prices.of(event):
            yield env.timeout(ms)
    # Without the bound, whoever asks again at once would miss the next pass.
    if (late_ms := arrived - first_ms - env.now) > 1e-9:
        yield env.timeout(late_ms)


def _round_trip(env: simpy.Environment, target: Target, prices: Prices, asked: Asked) -> Generator:
    up_ms, down_ms = prices.ways(asked.trip)
    yield env.timeout(up_ms)
    yield target.ask(asked.work)
    yield env.timeout(down_ms)
