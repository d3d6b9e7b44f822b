"""Many edges on one target, as discrete events: requests queue, and those that wait share a pass."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from specbench.analysis.clock import Prices, at
from specbench.analysis.replay import Step, Text, Timed, rounds

if TYPE_CHECKING:
    import simpy

MOST_CLIENTS = 512
MOST_ROWS = 256  # tokens of one pass
FEWEST_TEXTS = 16  # that are timed, however few clients there are
DRAWN_TEXTS, DRAWN_TOKENS, DRAWN_PROMPT = 64, 128, 64
PERCENTILE = 95


@dataclass(frozen=True)
class Script:
    """What one text asks of the target: its prompt, and its rounds."""

    prompt_tokens: int
    steps: tuple[Step, ...]

    @property
    def following(self) -> int:
        """Tokens behind the first."""
        return sum(step.committed for step in self.steps)

    def timed(self, decode_ms: float) -> Timed:
        """The text, answered in so much time behind its first token."""
        return Timed(
            ttft_ms=None,
            decode_ms=decode_ms,
            tokens=self.following + 1,
            rounds=len(self.steps),
            drafted=sum(step.drafted for step in self.steps),
            accepted=sum(step.accepted for step in self.steps),
        )


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
            steps.append(Step(drafted, unread, accepted, accepted + 1))
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


def simulate(work: Sequence[Script], prices: Prices, clients: int, streams: bool) -> Load:
    """`clients` edges, each asking one text after the other, until all have answered their share.

    The target takes all that wait, up to 256 tokens, into one pass, which costs what a verification of so many
    tokens does: weights are read once. A prompt is a pass of its own.

    Args:
        streams: the cloud alone: rounds follow each other there, and nothing waits for the edge.
    """
    import simpy

    env = simpy.Environment()
    target = _Target(env, prices)
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
            for step in script.steps:
                if streams:
                    yield target.verify(1)
                    continue
                yield env.timeout(prices.draft_ms(step.drafted, step.unread) + prices.round_ms)
                yield env.timeout(prices.rtt_ms / 2 + prices.sending_ms(step.drafted))
                yield target.verify(step.drafted + 1)
                yield env.timeout(prices.rtt_ms / 2 + prices.answer_ms(step.committed))
            if 0 < answered < each:  # the first one was asked while others had not begun
                timed[number, answered] = script.timed(env.now - begun)
                if len(timed) == clients * (each - 1):
                    over.succeed()
            answered += 1

    for number in range(clients):
        env.process(client(number))
    env.run(until=over)
    found = tuple(timed[key] for key in sorted(timed))
    return Load(clients, found, target.busy_ms / env.now, target.rows / max(1, target.passes))


class _Target:
    """One model that computes one pass at a time."""

    def __init__(self, env: simpy.Environment, prices: Prices) -> None:
        self._env, self._prices = env, prices
        self._waiting: list[tuple[int, simpy.Event]] = []
        self._prompts: list[tuple[float, simpy.Event]] = []
        self._idle: simpy.Event | None = None
        self.busy_ms, self.rows, self.passes = 0.0, 0, 0
        self._pass_ms = lru_cache(
            lambda width: at(prices.costs.target.verify_ms, width) / prices.costs.target.speed
        )
        env.process(self._run())

    def verify(self, width: int) -> simpy.Event:
        """Ask for a verification of so many tokens; the event is its end."""
        event = self._env.event()
        self._waiting.append((width, event))
        self._wake()
        return event

    def prefill(self, prompt_tokens: int) -> Iterator[simpy.Event]:
        """Read a prompt, if the table says what that takes."""
        known = self._prices.costs.target
        if known.prefill_ms is not None:
            event = self._env.event()
            self._prompts.append((at(known.prefill_ms, prompt_tokens) / known.speed, event))
            self._wake()
            yield event

    def _wake(self) -> None:
        if self._idle is not None:
            idle, self._idle = self._idle, None
            idle.succeed()

    def _run(self) -> Generator:
        while True:
            if not self._prompts and not self._waiting:
                self._idle = self._env.event()
                yield self._idle
            if self._prompts:
                took, event = self._prompts.pop(0)
                ended = [event]
            else:
                rows, ended = 0, []
                while self._waiting and (not ended or rows + self._waiting[0][0] <= MOST_ROWS):
                    width, event = self._waiting.pop(0)
                    rows += width
                    ended.append(event)
                took = self._pass_ms(rows)
                self.rows, self.passes = self.rows + rows, self.passes + 1
            yield self._env.timeout(took)
            self.busy_ms += took
            for event in ended:
                event.succeed()
            # Whoever streams is back at this moment, and joins those that waited.
            yield self._env.timeout(0)


def most_clients(run: Callable[[int], Load], objective_ms: float) -> Load | None:
    """The most clients of which 95 % of the texts keep to a time per token.

    Returns:
        What they saw; `None` where not even one client does.
    """
    best, low, high = None, 0, 1
    while high <= MOST_CLIENTS:
        load = run(high)
        if load.high_ms > objective_ms:
            break
        best, low, high = load, high, high * 2
    while best is not None and high - low > 1 and low < MOST_CLIENTS:
        middle = (low + high) // 2
        load = run(middle)
        if load.high_ms <= objective_ms:
            best, low = load, middle
        else:
            high = middle
    return best
