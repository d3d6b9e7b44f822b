"""Schedules on a virtual clock, over the agreement of a draft with the target's own text: pure, no model.

What a round accepts is decided by the trace alone; what it costs, by a table. One function a method.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from specbench.analysis.clock import Prices
from specbench.analysis.schedule import Length, Step, Text, adaptive_rounds, commit_of, rounds, step_at
from specbench.decoding.ahead import AheadWindow
from specbench.decoding.lengths import DraftLengths
from specbench.records import CONTROL


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
        drafting = prices.draft_ms(step.drafted, step.unread) + prices.round_ms
        if not step.verified:
            return drafting  # what a gate lets pass is sent, and not waited for
        return drafting + prices.pass_ms(step.width) + prices.trip_ms(step.drafted, step.committed)

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
        busy = drafting + prices.pass_ms(step.width) + prices.round_ms
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
    judged = [(step, count) for step, count in counted if step.verified]
    return Timed(
        ttft_ms=prices.ttft_ms(text.prompt_tokens, draft_speed),
        decode_ms=sum(count * round_ms(step) for step, count in counted),
        tokens=len(text.runs),
        rounds=sum(count for _, count in judged),
        drafted=sum(count * step.drafted for step, count in judged),
        accepted=sum(count * step.accepted for step, count in judged),
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
        step = step_at(text, position, unread, lengths.next(left - 1))
        drafted, carried = step.drafted, pending
        drafting = prices.draft_ms(max(drafted - carried, 0), unread)
        pending = max(drafted, carried)
        reading = unread if pending == 0 else 1
        trip_ms = prices.trip_ms(drafted, step.committed)
        waiting, elapsed = prices.pass_ms(step.width) + trip_ms, 0.0
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
        stands = step.accepted == drafted and ahead > 0 and step.guessed
        lengths.observe(commit_of(prices, step), drafted, drafting + elapsed, steps, trip_ms or None)
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
