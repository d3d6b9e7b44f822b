"""One target that computes a pass at a time, and what the edges of each method do: processes of SimPy."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from specbench.analysis.clock import Prices, at
from specbench.analysis.replay import Step, Timed
from specbench.decoding.ahead import AheadWindow

if TYPE_CHECKING:
    import simpy

MOST_ROWS = 256  # tokens of one pass


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
            rounds=sum(step.verified for step in self.steps),
            drafted=sum(step.drafted for step in self.steps if step.verified),
            accepted=sum(step.accepted for step in self.steps),
        )


class Target:
    """One model that computes one pass at a time, for all that wait."""

    def __init__(self, env: simpy.Environment, prices: Prices) -> None:
        self._env, self._prices = env, prices
        self._waiting: list[tuple[Step, bool, simpy.Event]] = []
        self._prompts: list[tuple[float, simpy.Event]] = []
        self._idle: simpy.Event | None = None
        self.busy_ms, self.rows, self.passes = 0.0, 0, 0
        self._pass_ms = lru_cache(prices.pass_ms)
        env.process(self._run())

    def verify(self, step: Step, drafts: bool = False) -> simpy.Event:
        """Ask for the verification of a round; the event is its end.

        Args:
            drafts: the draft runs here too, just before.
        """
        event = self._env.event()
        self._waiting.append((step, drafts, event))
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
                took, ended = self._next_pass()
            yield self._env.timeout(took)
            self.busy_ms += took
            for event in ended:
                event.succeed()
            # Whoever streams is back at this moment, and joins those that waited.
            yield self._env.timeout(0)

    def _next_pass(self) -> tuple[float, list[simpy.Event]]:
        """All that wait, as many as fit: how long it takes, and whose it is."""
        rows, ended, drafting = 0, [], []
        while self._waiting and (not ended or rows + self._waiting[0][0].width <= MOST_ROWS):
            step, drafts, event = self._waiting.pop(0)
            rows += step.width
            ended.append(event)
            drafting += [step] if drafts else []
        self.rows, self.passes = self.rows + rows, self.passes + 1
        took = self._pass_ms(rows)
        if drafting:
            prices = self._prices
            slower = prices.colocated_step_ms / prices.step_ms * self._pass_ms(len(drafting)) / self._pass_ms(1)
            took += max(prices.draft_ms(step.drafted, step.unread) for step in drafting) * slower
        return took, ended


def synchronous(env: simpy.Environment, target: Target, prices: Prices, script: Script) -> Generator:
    """`speculative`: draft, send, verify, answer. The value is the tokens drafted in vain ahead: none."""
    for step in script.steps:
        yield env.timeout(prices.draft_ms(step.drafted, step.unread) + prices.round_ms)
        if step.verified:
            yield from _round_trip(env, target, prices, step)
    return 0


def alone(env: simpy.Environment, target: Target, prices: Prices, script: Script) -> Generator:
    """The cloud alone: a token a pass, streamed."""
    return _streamed(env, target, prices, script, drafts=False)


def colocated(env: simpy.Environment, target: Target, prices: Prices, script: Script) -> Generator:
    """`speculative_colocated`: drafted and verified beside the target, streamed."""
    return _streamed(env, target, prices, script, drafts=True)


def _streamed(
    env: simpy.Environment, target: Target, prices: Prices, script: Script, drafts: bool
) -> Generator:
    """Rounds follow each other in the cloud; nothing waits for the edge, but a downlink may be slower."""
    first_ms = prices.answer_ms(1)
    arrived = env.now + first_ms
    for step in script.steps:
        yield target.verify(step, drafts)
        if drafts:
            yield env.timeout(prices.round_ms)
        arrived = max(arrived, env.now) + prices.answer_ms(step.committed)
    if (
        late := arrived - first_ms - env.now
    ) > 1e-9:  # else whoever asks again at once would miss the next pass
        yield env.timeout(late)
    return 0


def pipelined(env: simpy.Environment, target: Target, prices: Prices, script: Script) -> Generator:
    """`speculative_pipelined`: the edge drafts on while a verification is under way, by the real one's rule."""
    window, wasted, pending, unread, left = AheadWindow(), 0, 0, 1, script.following
    longest = max((step.drafted for step in script.steps), default=0)
    for step in script.steps:
        drafted, carried = step.drafted, pending
        drafting = prices.draft_ms(max(drafted - carried, 0), unread)
        yield env.timeout(drafting)
        pending = max(drafted, carried)
        reading = unread if pending == 0 else 1
        sent, room = env.now, left - drafted - 2
        answer = env.process(_round_trip(env, target, prices, step))
        wanted = drafted + 1 + min(longest, room) if room > 0 else 0
        while pending < wanted and not answer.triggered and window.pays(env.now - sent):
            yield env.timeout(prices.draft_ms(1, reading))
            pending, reading = pending + 1, 1
        elapsed = env.now - sent
        waiting = yield answer
        ahead, steps = pending - drafted, pending - carried
        stands = step.accepted == drafted and ahead > 0 and step.guessed
        window.observe(waiting, (drafting + elapsed) / steps if steps else None, stands if ahead else None)
        if stands:
            pending, unread = ahead - 1, 1
        else:
            unread = step.unread_behind if not ahead else 1
            wasted, pending = wasted + ahead, 0
        yield env.timeout(prices.round_ms)
        left -= step.committed
    return wasted


def _round_trip(env: simpy.Environment, target: Target, prices: Prices, step: Step) -> Generator:
    """From sending a draft until its verdict is there; the value is how long that took."""
    began = env.now
    yield env.timeout((prices.rtt_ms + prices.overhead_ms) / 2 + prices.sending_ms(step.drafted))
    yield target.verify(step)
    yield env.timeout((prices.rtt_ms + prices.overhead_ms) / 2 + prices.answer_ms(step.committed))
    return env.now - began
