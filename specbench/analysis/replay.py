"""Schedules on a virtual clock, over the agreement of a draft with the target's own text: pure, no model.

What a round accepts is decided by the trace alone; what it costs, by a table. One function a method.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from specbench.analysis.clock import Prices
from specbench.bench.traces import Trace
from specbench.decoding.ahead import AheadWindow
from specbench.decoding.lengths import DraftLengths
from specbench.decoding.request import Commit

Length = int | Literal["auto"]
CONTROL = "cloud_optimized_baseline"


@dataclass(frozen=True, eq=False)
class Text:
    """One text of the target's, as schedules see it.

    Args:
        runs: by position, how many tokens from there on the draft would get right in a row, behind the
            target's own prefix; as long as the text.
        budget: tokens that were asked for; a text that met a stop token is shorter.
    """

    prompt_tokens: int
    budget: int
    runs: tuple[int, ...]

    @classmethod
    def of(cls, agrees: str, budget: int, prompt_tokens: int = 1) -> Text:
        """A text by its agreement, a `1` or `0` a position; the first counts for nothing."""
        runs = [0] * (len(agrees) + 1)
        for position in range(len(agrees) - 1, -1, -1):
            runs[position] = runs[position + 1] + 1 if agrees[position] == "1" else 0
        return cls(prompt_tokens, budget, tuple(runs[:-1]))

    def judged(self, position: int, drafted: int) -> tuple[int, int]:
        """How many of `drafted` tokens behind the first `position` are accepted; how many are committed.

        A stop token ends the text inside a block: what was drafted behind it is neither.
        """
        accepted = min(drafted, self.runs[position])
        return accepted, min(accepted + 1, len(self.runs) - position)


def texts_of(trace: Trace) -> list[Text]:
    """All texts of a trace."""
    return [Text.of(text.agrees, text.max_new_tokens, text.prompt_tokens) for text in trace.texts]


class Step(NamedTuple):
    """One round: what was drafted, behind how many tokens new to the draft, and what became of it."""

    drafted: int
    unread: int
    accepted: int
    committed: int


@dataclass(frozen=True)
class Timed:
    """One text by one schedule.

    Args:
        ttft_ms: to the first token; `None` where the cost table says nothing of prompts.
        decode_ms: from the first token's arrival to the last one's.
        tokens: committed, the first one included.
        wasted: tokens that were drafted ahead in vain.
    """

    ttft_ms: float | None
    decode_ms: float
    tokens: int
    rounds: int = 0
    drafted: int = 0
    accepted: int = 0
    wasted: int = 0


def rounds(text: Text, draft_length: int) -> list[Step]:
    """The rounds of `speculative` with a fixed draft length; no cost has a say in them."""
    position, unread, found = 1, 1, []
    while position < len(text.runs):
        step = _step(text, position, unread, draft_length)
        found.append(step)
        unread, position = _unread(step), position + step.committed
    return found


def adaptive_rounds(text: Text, prices: Prices, step_ms: float, trips: bool) -> list[Step]:
    """The rounds of `speculative` with `draft_length: auto`, by the controller of the real one.

    Args:
        step_ms: a step of the draft, where it runs.
        trips: whether a link lies between draft and target.
    """
    lengths, position, unread, found = DraftLengths("auto"), 1, 1, []
    while position < len(text.runs):
        step = _step(text, position, unread, lengths.next(text.budget - position - 1))
        drafting = prices.draft_ms(step.drafted, step.unread) * step_ms / prices.step_ms
        rtt_ms = prices.trip_ms(step.drafted, step.committed) if trips else 0.0
        lengths.observe(_commit(prices, step), step.drafted, drafting, step.drafted, rtt_ms or None)
        found.append(step)
        unread, position = _unread(step), position + step.committed
    return found


def _commit(prices: Prices, step: Step) -> Commit:
    """What the controller is told of a round; it asks for no token."""
    return Commit((), step.accepted, None, prices.verify_ms[step.drafted + 1])


def _step(text: Text, position: int, unread: int, draft_length: int) -> Step:
    # The target adds a token of its own, so a longer draft than this could not be committed.
    drafted = min(draft_length, text.budget - position - 1)
    return Step(drafted, unread, *text.judged(position, drafted))


def _unread(step: Step) -> int:
    """The last drafted token was never read; where it stands, it and the bonus token are both new."""
    return 2 if step.drafted and step.accepted == step.drafted else 1


@lru_cache(maxsize=65_536)
def _counted(text: Text, draft_length: int) -> tuple[tuple[Step, int], ...]:
    """The kinds of round and how often each occurs: all that a fixed draft length's time depends on."""
    return tuple(Counter(rounds(text, draft_length)).items())


def autoregressive(text: Text, prices: Prices) -> Timed:
    """The cloud alone: one request, and every token is sent as soon as it is there."""
    following = len(text.runs) - 1
    step_ms = max(prices.verify_ms[1], prices.answer_ms(1))
    return Timed(prices.ttft_ms(text.prompt_tokens, draft_speed=None), following * step_ms, len(text.runs))


def synchronous(text: Text, prices: Prices, draft_length: Length) -> Timed:
    """`speculative`: draft, send, verify, answer, one after the other."""

    def round_ms(step: Step) -> float:
        drafting = prices.draft_ms(step.drafted, step.unread)
        trip = prices.trip_ms(step.drafted, step.committed)
        return drafting + prices.verify_ms[step.drafted + 1] + trip + prices.round_ms

    speed = prices.costs.draft.speed
    if draft_length == "auto":
        steps = adaptive_rounds(text, prices, prices.step_ms, trips=True)
        return _priced(text, prices, Counter(steps).items(), round_ms, speed)
    return _priced(text, prices, _counted(text, draft_length), round_ms, speed)


def colocated(text: Text, prices: Prices, draft_length: Length) -> Timed:
    """`speculative_colocated`: both models in the cloud; what is committed is streamed to the edge."""

    def round_ms(step: Step) -> float:
        slower = prices.colocated_step_ms / prices.step_ms
        drafting = prices.draft_ms(step.drafted, step.unread) * slower
        busy = drafting + prices.verify_ms[step.drafted + 1] + prices.round_ms
        return max(busy, prices.answer_ms(step.committed))

    speed = prices.costs.target.speed  # the draft is read beside the target too
    if draft_length == "auto":
        steps = adaptive_rounds(text, prices, prices.colocated_step_ms, trips=False)
        return _priced(text, prices, Counter(steps).items(), round_ms, speed)
    return _priced(text, prices, _counted(text, draft_length), round_ms, speed)


def _priced(
    text: Text,
    prices: Prices,
    counted: Iterable[tuple[Step, int]],
    round_ms: Callable[[Step], float],
    draft_speed: float,
) -> Timed:
    counted = list(counted)
    return Timed(
        ttft_ms=prices.ttft_ms(text.prompt_tokens, draft_speed),
        decode_ms=sum(count * round_ms(step) for step, count in counted),
        tokens=len(text.runs),
        rounds=sum(count for _, count in counted),
        drafted=sum(count * step.drafted for step, count in counted),
        accepted=sum(count * step.accepted for step, count in counted),
    )


def pipelined(text: Text, prices: Prices, draft_length: Length) -> Timed:
    """`speculative_pipelined`: the edge drafts on while a verification is under way, as if all were accepted.

    What it drafted ahead stands where all of the round was accepted and the target's own token is the first of
    it; else it is thrown away. A step that has begun is finished before the answer is looked at. Whether to
    begin one is decided by the real method's own rule.
    """
    lengths, window = DraftLengths(draft_length), AheadWindow()
    length, position, unread, pending = len(text.runs), 1, 1, 0
    now, taken, wasted = 0.0, [], 0
    while position < length:
        left = text.budget - position
        step = _step(text, position, unread, lengths.next(left - 1))
        drafted, carried = step.drafted, pending
        drafting = prices.draft_ms(max(drafted - carried, 0), unread)
        pending = max(drafted, carried)
        reading = unread if pending == 0 else 1
        trip_ms = prices.trip_ms(drafted, step.committed)
        waiting, elapsed = prices.verify_ms[drafted + 1] + trip_ms, 0.0
        right = text.runs[position]  # tokens that the draft gets right from here on
        ends_at = length - position if length < text.budget else left + 1  # where the stop token is
        room = left - drafted - 2
        if room > 0 and not right >= ends_at <= drafted:
            wanted = drafted + 1 + lengths.next(room)
            while pending < wanted and elapsed < waiting and window.pays(elapsed):
                elapsed += prices.draft_ms(1, reading)
                pending, reading = pending + 1, 1
                if pending == drafted + 1 == ends_at <= right:
                    break  # the guess is that the text ends here
        ahead, steps = pending - drafted, pending - carried
        now += drafting + max(waiting, elapsed) + prices.round_ms
        stands = step.accepted == drafted and (right > drafted if ahead else False)
        lengths.observe(_commit(prices, step), drafted, drafting + elapsed, steps, trip_ms or None)
        window.observe(waiting, (drafting + elapsed) / steps if steps else None, stands if ahead else None)
        if stands:
            pending, unread = ahead - 1, 1
        else:
            # The guess was drafted by reading the last token of the proposal; else that is still to be read.
            unread = 2 if drafted and step.accepted == drafted and not ahead else 1
            wasted, pending = wasted + ahead, 0
        taken.append(step)
        position += step.committed
    ttft_ms = prices.ttft_ms(text.prompt_tokens, prices.costs.draft.speed)
    drafted_in_all, accepted = sum(step.drafted for step in taken), sum(step.accepted for step in taken)
    return Timed(ttft_ms, now, length, len(taken), drafted_in_all, accepted, wasted)


SCHEDULES: dict[str, Callable[[Text, Prices, Length], Timed]] = {
    "speculative": synchronous,
    "speculative_pipelined": pipelined,
    "speculative_colocated": colocated,
}
"""What drafts, by the name of its method."""


def replay(texts: Sequence[Text], prices: Prices, method: str, draft_length: Length) -> list[Timed]:
    """All texts by one schedule; `draft_length` means nothing to the control."""
    if method == CONTROL:
        return [autoregressive(text, prices) for text in texts]
    schedule = SCHEDULES[method]
    return [schedule(text, prices, draft_length) for text in texts]
