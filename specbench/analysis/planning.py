"""Closed forms: what each method takes per token, from conditional acceptance and a cost table alone.

A round drafts γ tokens and commits τ = 1 + ΣSᵢ of them, Sᵢ being the chance that the first i all stand. With t
the target's step, c the draft's in t, and v a verification of γ + 1 tokens in t, drafting pays where ΣSᵢ > γc +
(v - 1) + RTT/t: what a round wins, against what it costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from operator import mul

from specbench.analysis.clock import Prices
from specbench.analysis.replay import rounds
from specbench.analysis.schedule import Text
from specbench.results import Acceptance

LONGEST = 32
FARTHEST_MS = 60_000.0
ENOUGH = 10  # drafts that must have come to a position


@dataclass(frozen=True)
class Survival:
    """Conditional acceptance by position; behind the last known position it stays what it was there."""

    conditional: tuple[float, ...]

    def curve(self, count: int) -> list[float]:
        """Sᵢ for i = 1 to `count`."""
        known = list(self.conditional[:count])
        return list(accumulate(known + [self.conditional[-1]] * (count - len(known)), mul))

    def tokens(self, draft_length: int) -> float:
        """τ: tokens that a round commits, the target's own included."""
        return 1 + sum(self.curve(draft_length))

    @property
    def mean(self) -> float:
        """Share of judged tokens that stood, which is what the formula for equal chances is given."""
        curve = self.curve(len(self.conditional))
        return sum(curve) / sum([1.0, *curve[:-1]])

    def tokens_if_equal(self, draft_length: int) -> float:
        """τ if every token had the same chance (Leviathan et al. 2023, equation 1)."""
        alpha = self.mean
        return draft_length + 1.0 if alpha == 1 else (1 - alpha ** (draft_length + 1)) / (1 - alpha)


def measured_survival(texts: Sequence[Text]) -> Survival:
    """Conditional acceptance of long drafts over a trace, as far as any draft came."""
    judged, stood = [0] * LONGEST, [0] * LONGEST
    for text in texts:
        for step in rounds(text, LONGEST):
            # Where the text ended inside a block, nothing behind the end was judged.
            for position in range(min(step.drafted, step.accepted + (step.committed > step.accepted))):
                judged[position] += 1
                stood[position] += position < step.accepted
    known = [won / met for won, met in zip(stood, judged, strict=True) if met >= ENOUGH]
    return Survival(tuple(known) or (stood[0] / max(1, judged[0]),))


def survival_of(found: Acceptance) -> Survival | None:
    """Conditional acceptance in a run, as far as drafts enough came; `None` where the target judged none."""
    known = [share for share, met in zip(found.conditional, found.judged, strict=True) if met >= ENOUGH]
    chances = tuple(share for share in known or found.conditional[:1] if share is not None)
    return Survival(chances) if chances else None


@dataclass(frozen=True)
class Forecast:
    """One method at one draft length, by closed form.

    Args:
        draft_length: `None` for the cloud alone.
        tokens_per_round: τ; `tokens_if_equal` is what the formula for equal chances says.
        terms: milliseconds of a round by what they are spent on.
        break_even_rtt_ms: the round trip at which it takes as long as the cloud alone; `None` where it is
            slower without any, or where none makes it so.
    """

    method: str
    draft_length: int | None
    tokens_per_round: float
    tokens_if_equal: float
    ms_per_token: float
    speedup: float
    terms: dict[str, float]
    break_even_rtt_ms: float | None = None


def alone_ms(prices: Prices) -> float:
    """A token of the cloud alone, streamed."""
    return max(prices.verify_ms[1], prices.answer_ms(1))


def synchronous(survival: Survival, prices: Prices, draft_length: int, rtt_ms: float) -> dict[str, float]:
    """The terms of a round of `speculative`."""
    whole, tokens = survival.curve(draft_length)[-1], survival.tokens(draft_length)
    return {
        "draft": draft_length * prices.step_ms + whole * prices.read_ms,
        "verification": prices.verify_ms[draft_length + 1],
        "round trip": rtt_ms + prices.overhead_ms,
        "bytes": prices.sending_ms(draft_length) + prices.answer_ms(tokens),
        "other": prices.round_ms,
    }


def colocated(survival: Survival, prices: Prices, draft_length: int, rtt_ms: float) -> dict[str, float]:
    """The terms of a round of `speculative_colocated`; the link only streams."""
    del rtt_ms
    terms = synchronous(survival, prices, draft_length, 0.0) | {"round trip": 0.0}
    terms["draft"] *= prices.colocated_step_ms / prices.step_ms
    busy = sum(terms.values()) - terms["bytes"]
    terms["bytes"] = max(0.0, prices.answer_ms(survival.tokens(draft_length)) - busy)
    return terms


def pipelined(survival: Survival, prices: Prices, draft_length: int, rtt_ms: float) -> dict[str, float]:
    """The terms of a round of `speculative_pipelined`, in the mean.

    What is drafted ahead stands if all γ tokens and the guess behind them do. A step is begun while less is
    lost by ending too late, if it was in vain, than is won if not.
    """
    terms = synchronous(survival, prices, draft_length, rtt_ms)
    stands = survival.curve(draft_length + 1)[-1]
    waiting = sum(terms.values()) - terms["draft"] - terms["other"]
    ahead = max(0, min(draft_length + 1, ceil(waiting / prices.step_ms + stands) - 1))
    saved = stands * max(0, ahead - 1) * prices.step_ms
    late = max(0.0, ahead * prices.step_ms - waiting)
    if ahead:  # its first step read what the next draft would have had to read
        terms["draft"] = draft_length * prices.step_ms
    terms["draft"] += late - saved
    return terms


FORMS: dict[str, Callable[[Survival, Prices, int, float], dict[str, float]]] = {
    "speculative": synchronous,
    "speculative_pipelined": pipelined,
    "speculative_colocated": colocated,
}
"""By the name of the method."""


def forecast(survival: Survival, prices: Prices, method: str, draft_length: int) -> Forecast:
    """One method at one draft length."""
    terms = FORMS[method](survival, prices, draft_length, prices.rtt_ms)
    tokens = survival.tokens(draft_length)
    ms_per_token = sum(terms.values()) / tokens
    return Forecast(
        method=method,
        draft_length=draft_length,
        tokens_per_round=tokens,
        tokens_if_equal=survival.tokens_if_equal(draft_length),
        ms_per_token=ms_per_token,
        speedup=alone_ms(prices) / ms_per_token,
        terms=terms,
        break_even_rtt_ms=_break_even(survival, prices, method, draft_length),
    )


def forecasts(survival: Survival, prices: Prices, method: str) -> list[Forecast]:
    """One method at every draft length up to the longest, the shortest first."""
    return [forecast(survival, prices, method, length) for length in range(1, LONGEST + 1)]


def fastest(found: Sequence[Forecast]) -> Forecast:
    """The one with the least time per token."""
    return min(found, key=lambda each: each.ms_per_token)


def break_even_rtt_ms(survival: Survival, prices: Prices, method: str) -> float | None:
    """The longest round trip at which some draft length is as fast as the cloud alone.

    Returns:
        `None` where none is, even without a link; infinity where the round trip has no say.
    """
    found = [_break_even(survival, prices, method, length) for length in range(1, LONGEST + 1)]
    return max((rtt for rtt in found if rtt is not None), default=None)


def _break_even(survival: Survival, prices: Prices, method: str, draft_length: int) -> float | None:
    form, worth = FORMS[method], survival.tokens(draft_length) * alone_ms(prices)

    def excess(rtt_ms: float) -> float:
        return sum(form(survival, prices, draft_length, rtt_ms).values()) - worth

    if excess(0.0) > 0:
        return None
    if excess(FARTHEST_MS) <= 0:
        return float("inf")
    low, high = 0.0, FARTHEST_MS
    while high - low > 1e-6 * max(1.0, high):  # time grows with the round trip in every form
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) <= 0 else (low, middle)
    return low


def verdicts(survival: Survival, prices: Prices, methods: Iterable[str] = tuple(FORMS)) -> list[str]:
    """What the forms say, a sentence for each method; in words where nothing can win, and why."""
    lines = []
    for method in methods:
        best, even = fastest(forecasts(survival, prices, method)), break_even_rtt_ms(survival, prices, method)
        name = (
            f"{method}: draft length {best.draft_length} is the best, {best.speedup:.2f} times the cloud alone"
        )
        if even is None:
            lines.append(f"{method}: no draft length can win, {_why(best, prices)}.")
        elif method == "speculative_colocated":
            lines.append(f"{name}, whatever the round trip.")
        elif best.speedup > 1:
            lines.append(f"{name}; it pays up to a round trip of {even:.1f} ms.")
        else:
            lines.append(
                f"{method}: no draft length wins at a round trip of {prices.rtt_ms:g} ms, "
                f"{_why(best, prices)}; below {even:.1f} ms it pays."
            )
    return lines


def _why(best: Forecast, prices: Prices) -> str:
    """What the nearest setting wins and costs, in the target's steps."""
    step_ms = alone_ms(prices)
    parts = {**best.terms, "verification": best.terms["verification"] - step_ms}
    dearest = max(parts, key=lambda name: parts[name])
    return (
        f"for a round of {best.draft_length} wins {best.tokens_per_round - 1:.2f} steps of the target and "
        f"costs {sum(parts.values()) / step_ms:.2f}, most of it {dearest}"
    )
