"""Many edges on one target, as discrete events: requests queue, and those that wait share a pass."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

import numpy as np

from specbench.forecast.clients import Target, follow
from specbench.forecast.events import Asked, Event
from specbench.forecast.replay import Length, Timed, played, timed
from specbench.forecast.traced_drafter import Text
from specbench.method import Method
from specbench.stats.prices import Prices

MOST_CLIENTS = 512
FEWEST_TEXTS = 16  # that are timed, however few clients there are
PERCENTILE = 95


@dataclass(frozen=True)
class Script:
    """One sequence by one method, as a virtual run of the method had it.

    Args:
        first: the events up to the first token.
        events: those behind it.
        timed: what they came to where nobody else had the target.
    """

    first: tuple[Event, ...]
    events: tuple[Event, ...]
    timed: Timed


def scripts(texts: Sequence[Text], prices: Prices, method: Method, draft_length: Length) -> list[Script]:
    """All sequences that have more than a first token; a method that looks at the clock saw a lone edge's."""
    found = []
    for text in texts:
        first, *rest = played(text, prices, method, draft_length)
        if rest:
            events = tuple(event for one in rest for event in one.events)
            found.append(Script(first.events, events, timed(text, prices, method, draft_length)))
    return found


@dataclass(frozen=True)
class Load:
    """What a number of clients saw.

    Args:
        timed: every client's texts but its first, in the order of clients; without a time to the first token.
        busy: share of the time in which the target computed.
        rows_per_pass: tokens that a pass of the target read, in the mean.
    """

    clients: int
    timed: tuple[Timed, ...]
    busy: float
    rows_per_pass: float

    @property
    def tpot_ms(self) -> list[float]:
        """Of each text, behind its first token."""
        return [one.decode_ms / (one.tokens - 1) for one in self.timed]

    @property
    def high_ms(self) -> float:
        """The 95th percentile of the time per token."""
        return float(np.percentile(self.tpot_ms, PERCENTILE))


def simulate(work: Sequence[Script], prices: Prices, clients: int) -> Load:
    """`clients` edges, each asking one text after the other, until all have answered their share.

    The target takes all that wait, up to 256 tokens, into one pass, which costs what a verification of so many
    tokens does: weights are read once. A prompt is a pass of its own. Co-located drafts take the target's time
    too; those of rounds that share a pass are drafted together, a step of them costing more as a pass does.
    """
    import simpy

    env = simpy.Environment()
    target = Target(env, prices)
    each = 1 + max(1, ceil(FEWEST_TEXTS / clients))
    found: dict[tuple[int, int], Timed] = {}
    over = env.event()

    def client(number: int) -> Generator:
        # Edges do not begin at one moment: their first texts are spread over one.
        following = work[number % len(work)].timed.tokens - 1
        yield env.timeout(number / clients * following * prices.verify_ms[1])
        answered = 0
        while True:
            script = work[(number + answered * clients) % len(work)]
            for event in script.first:  # of what begins a sequence, the target's time alone is another's too
                if isinstance(event, Asked) and prices.sum_of(event.work):
                    yield target.ask(event.work)
            begun = env.now
            yield from follow(env, target, prices, script.events)
            if 0 < answered < each:  # the first one was asked while others had not begun
                found[number, answered] = replace(script.timed, ttft_ms=None, decode_ms=env.now - begun)
                if len(found) == clients * (each - 1):
                    over.succeed()
            answered += 1

    for number in range(clients):
        env.process(client(number))
    env.run(until=over)
    busy = target.busy_ms / env.now
    in_order = tuple(_with_share(found[key], busy / clients) for key in sorted(found))
    return Load(clients, in_order, busy, target.rows / max(1, target.passes))


def _with_share(one: Timed, share: float) -> Timed:
    """A text whose part of the target's computing is that of all others in the same time."""
    return one if one.use is None else replace(one, use=one.use._replace(target_ms=share * one.decode_ms))


def most_clients(run: Callable[[int], Load], objective_ms: float, beyond: int = 0) -> Load | None:
    """The most clients of which 95 % of the texts keep to a time per token, looked for up to `MOST_CLIENTS`.

    Args:
        beyond: fewer than this and one more are not looked for.

    Returns:
        What they saw; `None` where not even the fewest do.
    """
    best, low, high = None, beyond, beyond + 1
    while low < MOST_CLIENTS:
        load = run(high)
        if load.high_ms > objective_ms:
            break
        best, low, high = load, high, min(2 * high, MOST_CLIENTS)
    while best is not None and high - low > 1:
        middle = (low + high) // 2
        load = run(middle)
        if load.high_ms <= objective_ms:
            best, low = load, middle
        else:
            high = middle
    return best


def most_served(
    work_of: Callable[[int], Sequence[Script]],
    prices: Prices,
    lengths: Iterable[int],
    objective_ms: float,
) -> tuple[int, Load | None]:
    """The draft length with which one target serves the most clients, and what these see.

    Args:
        work_of: texts by draft length.
        lengths: to be tried, the likeliest first; what is best for one client may be too wide for many.
    """
    lengths = list(dict.fromkeys(lengths))
    best, most = lengths[0], None
    for length in lengths:
        work = work_of(length)
        load = most_clients(
            partial(simulate, work, prices),
            objective_ms,
            most.clients if most else 0,
        )
        if load is not None:
            best, most = length, load
    return best, most
