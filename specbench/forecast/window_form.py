"""The closed form of windows: the round trip up to which drafting pays with several proposals in flight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from specbench.forecast.known import LONGEST
from specbench.stats.prices import Prices


class WindowEven(NamedTuple):
    """The longest round trip that pays, and the draft length at which it does; negative where none pays."""

    rtt_ms: float
    draft_length: int


def window_even(prices: Prices, alone_ms: float, acceptance: float, tokens: float) -> WindowEven:
    """The farther of the break-evens with windows and with one round at a time, over all draft lengths.

    Good drafts pay farther with windows, weak ones without, since the next refusal is near.

    Args:
        alone_ms: t, a token of the cloud alone.
        acceptance: α, the share of drafted tokens that stand.
        tokens: L, of a sequence.
    """
    rare = 1 - acceptance + 1 / tokens
    lengths = range(1, LONGEST + 1)
    windows = (WindowEven(_with_windows(prices, alone_ms, rare, length), length) for length in lengths)
    rounds = (WindowEven(_by_rounds(prices, alone_ms, acceptance, length), length) for length in lengths)
    return max(*windows, *rounds)


def _with_windows(prices: Prices, alone_ms: float, rare: float, length: int) -> float:
    """(t - b) / ((1 - α) + 1/L) - γ·d/2 - v(γ), with b = max(d, v(γ)/γ).

    A token costs b while all goes well: what drafting it or reading it takes, whichever is longer; on one
    machine each is slower while the other goes on. A refusal costs a round trip, a pass and on average half a
    proposal, and so does the end of a sequence. What a round takes besides counts as drafting, and what a
    message takes besides as round trip.
    """
    edge, target = prices.overlap_slowdowns
    draft_ms, pass_ms = length * prices.step_ms + prices.round_ms, prices.pass_ms(length)
    both_ms = min(draft_ms, pass_ms)
    busy_ms = max(draft_ms + (edge - 1) * both_ms, pass_ms + (target - 1) * both_ms)
    besides_ms = prices.overhead_ms + prices.sending_ms(length) + prices.answer_ms(length)
    return (alone_ms - busy_ms / length) / rare - draft_ms / 2 - pass_ms - besides_ms


def _by_rounds(prices: Prices, alone_ms: float, acceptance: float, length: int) -> float:
    """τ·t - γ·d - v(γ + 1), with τ = 1 + α + ... + αᵞ tokens a round (Leviathan et al. 2023, equation 1)."""
    committed = sum(acceptance**accepted for accepted in range(length + 1))
    round_ms = length * prices.step_ms + prices.round_ms + prices.pass_ms(length + 1)
    besides_ms = prices.overhead_ms + prices.sending_ms(length) + prices.answer_ms(committed)
    return committed * alone_ms - round_ms - besides_ms


@dataclass(frozen=True)
class WindowPlan:
    """Up to which round trip a method pays with `speculative.window: auto`.

    Args:
        draft_length: for which the formula names the longest round trip.
        formula_rtt_ms: what `window_even` says; negative where nothing pays.
        break_even_rtt_ms: of virtual runs at that draft length; `None` where they are slower without any.
    """

    draft_length: int
    formula_rtt_ms: float
    break_even_rtt_ms: float | None

    def told(self, method: str) -> str:
        """The same in a sentence."""
        formula = f"{self.formula_rtt_ms:.1f} ms" if self.formula_rtt_ms > 0 else "none"
        return (
            f"{method} with windows (speculative.window: auto, draft length {self.draft_length}) "
            f"{_said(self.break_even_rtt_ms)} (by the formula: {formula})."
        )


def _said(rtt_ms: float | None) -> str:
    if rtt_ms is None:
        return "pays at no round trip"
    return f"pays up to a round trip of {rtt_ms:.1f} ms"
