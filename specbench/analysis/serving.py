"""Many edges on one target, as discrete events: requests queue, and those that wait share a pass."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from specbench.analysis.clients import Script, Target, alone, colocated, pipelined, synchronous
from specbench.analysis.clock import Prices
from specbench.analysis.replay import Step, Timed, rounds
from specbench.analysis.schedule import Text
from specbench.records import CONTROL

MOST_CLIENTS = 512
FEWEST_TEXTS = 16  # that are timed, however few clients there are
DRAWN_TEXTS, DRAWN_TOKENS, DRAWN_PROMPT = 64, 128, 64
PERCENTILE = 95
SIMULATED = {
    CONTROL: alone,
    "speculative": synchronous,
    "speculative_pipelined": pipelined,
    "speculative_colocated": colocated,
}
"""What an edge does, by the name of its method."""


def scripts(texts: Sequence[Text], draft_length: int) -> list[Script]:
    """Texts by `speculative` with this draft length; 0 is the cloud alone, a token a round."""
    found = [Script(text.prompt_tokens, tuple(rounds(text, draft_length))) for text in texts]
    return [script for script in found if script.steps]


def drawn_scripts(conditional: Sequence[float], draft_length: int) -> list[Script]:
    """Texts whose drafts stand by these chances alone, for want of a trace; 0 is the cloud alone."""
    coin, found = random.Random(0), []
    for _ in range(DRAWN_TEXTS):
        steps, position, unread = [], 1, 1
        while position < DRAWN_TOKENS:
            drafted, accepted = min(draft_length, DRAWN_TOKENS - position - 1), 0
            while accepted < drafted and coin.random() < conditional[min(accepted, len(conditional) - 1)]:
                accepted += 1
            guessed = accepted == drafted and coin.random() < conditional[min(drafted, len(conditional) - 1)]
            steps.append(Step(drafted, unread, accepted, accepted + 1, guessed))
            unread = 2 if drafted and accepted == drafted else 1
            position += accepted + 1
        found.append(Script(DRAWN_PROMPT, tuple(steps)))
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


def simulate(work: Sequence[Script], prices: Prices, clients: int, method: str) -> Load:
    """`clients` edges, each asking one text after the other, until all have answered their share.

    The target takes all that wait, up to 256 tokens, into one pass, which costs what a verification of so many
    tokens does: weights are read once. A prompt is a pass of its own. Co-located drafts take the target's time
    too; those of rounds that share a pass are drafted together, a step of them costing more as a pass does.

    Args:
        method: of the rounds in `work`; the control's are a token each.
    """
    import simpy

    env = simpy.Environment()
    target = Target(env, prices)
    rounds_of = SIMULATED[method]
    each = 1 + max(1, ceil(FEWEST_TEXTS / clients))
    timed: dict[tuple[int, int], Timed] = {}
    over = env.event()

    def client(number: int) -> Generator:
        # Edges do not begin at one moment: their first texts are spread over one.
        yield env.timeout(number / clients * work[number % len(work)].following * prices.verify_ms[1])
        answered = 0
        while True:
            script = work[(number + answered * clients) % len(work)]
            yield from target.prefill(script.prompt_tokens)
            begun = env.now
            wasted = yield from rounds_of(env, target, prices, script)
            if 0 < answered < each:  # the first one was asked while others had not begun
                timed[number, answered] = replace(script.timed(env.now - begun), wasted=wasted)
                if len(timed) == clients * (each - 1):
                    over.succeed()
            answered += 1

    for number in range(clients):
        env.process(client(number))
    env.run(until=over)
    found = tuple(timed[key] for key in sorted(timed))
    return Load(clients, found, target.busy_ms / env.now, target.rows / max(1, target.passes))


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
    method: str,
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
            lambda clients, work=work: simulate(work, prices, clients, method),
            objective_ms,
            most.clients if most else 0,
        )
        if load is not None:
            best, most = length, load
    return best, most
