"""Plans: what each method takes per token at every draft length, and up to which round trip it pays.

The methods' own decoders run on a virtual clock, over a trace, or over a sequence whose drafts are drawn by the
chances that are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from specbench.forecast import serving
from specbench.forecast.assumed import Assumption, assumed_acceptance, assumed_texts
from specbench.forecast.known import LONGEST, Known
from specbench.forecast.mean_rounds import MeanRound, mean_round
from specbench.forecast.over import DRAFT_LENGTHS
from specbench.forecast.replay import known_method
from specbench.forecast.serving import Load
from specbench.forecast.spending import Modelled
from specbench.forecast.varied import takes_window, windowed
from specbench.forecast.window_form import WindowPlan, window_even
from specbench.method import Method
from specbench.results.records import CONTROL
from specbench.stats.prices import Prices

FARTHEST_MS = 60_000.0


@dataclass(frozen=True)
class Forecast:
    """One method at one draft length.

    Args:
        draft_length: `None` for the cloud alone.
        tokens_per_round: in the mean; `tokens_if_equal` is what the formula for equal chances says.
        terms: milliseconds of a round by what they are spent on; drafting that a round trip hides is no part.
        break_even_rtt_ms: the round trip at which it takes as long as the cloud alone; `None` where it is
            slower without any, and where it was not asked for; infinity where none makes it so.
        spent: what a token takes in energy and money.
    """

    method: str
    draft_length: int | None
    tokens_per_round: float
    tokens_if_equal: float
    ms_per_token: float
    speedup: float
    terms: dict[str, float]
    break_even_rtt_ms: float | None = None
    spent: Modelled = field(default_factory=Modelled)


def forecast(known: Known, prices: Prices, method: Method, draft_length: int) -> Forecast:
    """One method at one draft length, without its break-even round trip."""
    mean = mean_round(known, prices, method, draft_length)
    return Forecast(
        method=method.name,
        draft_length=draft_length,
        tokens_per_round=mean.tokens,
        tokens_if_equal=known.survival.tokens_if_equal(draft_length),
        ms_per_token=mean.ms_per_token,
        speedup=alone_ms(known, prices) / mean.ms_per_token,
        terms=mean.terms,
        spent=mean.spent(prices.costs),
    )


def forecasts(known: Known, prices: Prices, method: Method) -> list[Forecast]:
    """One method at every draft length up to the longest, the shortest first."""
    return [forecast(known, prices, method, length) for length in range(1, LONGEST + 1)]


@dataclass(frozen=True)
class Plan:
    """What each method would take, and what that rests on.

    Args:
        by_method: every draft length, as `planned` returns them.
        verdicts: a sentence for each method.
        windows: up to which round trip methods pay that take windows.
        served: by method, the best draft length for many clients of one target, and what they see.
        objective_ms: the time per token that these keep to; `None` where they were not asked for.
    """

    known: Known
    prices: Prices
    by_method: dict[str, list[Forecast]]
    verdicts: list[str]
    assumed: list[Assumption]
    windows: dict[str, WindowPlan]
    served: dict[str, tuple[int, Load | None]] = field(default_factory=dict)
    objective_ms: float | None = None


def plan(
    known: Known, prices: Prices, assumed: Sequence[Assumption] = (), objective_ms: float | None = None
) -> Plan:
    """Plan every method, and with an objective also how many clients one target serves.

    Args:
        assumed: what is assumed in the prices.
        objective_ms: time per token to keep to.
    """
    by_method, served, assumed = planned(known, prices), {}, [*assumed_acceptance(known), *assumed]
    if objective_ms:
        asked = (known_method(CONTROL), *known.methods)
        served = {method.name: served_by(known, prices, method, objective_ms) for method in asked}
        assumed = [*assumed, *assumed_texts(prices.costs, bool(known.texts))]
    windows = with_windows(known, prices)
    lines = [*verdicts(by_method, known, prices), *(found.told(name) for name, found in windows.items())]
    return Plan(known, prices, by_method, lines, assumed, windows, served, objective_ms)


def fastest(found: Sequence[Forecast]) -> Forecast:
    """The one with the least time per token."""
    return min(found, key=lambda each: each.ms_per_token)


def spent_least(found: Sequence[Forecast], name: str) -> Forecast | None:
    """The one that takes least of a figure of `Modelled`; `None` where that is unknown."""
    known = [each for each in found if getattr(each.spent, name) is not None]
    return min(known, key=lambda each: getattr(each.spent, name)) if known else None


def alone_ms(known: Known, prices: Prices) -> float:
    """A token of the cloud alone, streamed."""
    return alone(known, prices).ms_per_token


def alone(known: Known, prices: Prices) -> MeanRound:
    """A round of the cloud alone."""
    return mean_round(known, prices, known_method(CONTROL), 1)


def break_even_rtt_ms(
    known: Known, prices: Prices, method: Method, draft_length: int, guess_ms: float = 0.0
) -> float | None:
    """The round trip at which one draft length takes as long as the cloud alone.

    Args:
        guess_ms: about what it is, for a shorter search.

    Returns:
        `None` where it is slower without any; infinity where the round trip has no say.
    """
    from scipy.optimize import brentq

    def excess(rtt_ms: float) -> float:
        at = Prices(prices.costs.with_values({"link.rtt_ms": rtt_ms}))
        return mean_round(known, at, method, draft_length).ms_per_token - base_ms

    base_ms = alone_ms(known, prices)
    if excess(0.0) > 0:
        return None
    low, high = 0.0, max(base_ms, 1.2 * guess_ms)
    while excess(high) <= 0:
        if high >= FARTHEST_MS:
            return float("inf")
        low, high = high, 2 * high
    return brentq(excess, low, high, xtol=1e-2)


def planned(known: Known, prices: Prices) -> dict[str, list[Forecast]]:
    """By method, every draft length with its break-even round trip."""
    return {
        method.name: [
            replace(each, break_even_rtt_ms=break_even_rtt_ms(known, prices, method, each.draft_length or 1))
            for each in forecasts(known, prices, method)
        ]
        for method in known.methods
    }


def with_windows(known: Known, prices: Prices) -> dict[str, WindowPlan]:
    """Up to which round trip methods pay that take windows, by name."""
    tokens = fmean(len(text.runs) for text in known.planned_texts)
    even = window_even(prices, alone_ms(known, prices), known.survival.mean, tokens)
    length, guess_ms = even.draft_length, even.rtt_ms
    return {
        method.name: WindowPlan(
            length, guess_ms, break_even_rtt_ms(known, prices, windowed(method, "auto"), length, guess_ms)
        )
        for method in known.methods
        if takes_window(method)
    }


def farthest_ms(found: Sequence[Forecast]) -> float | None:
    """The longest round trip at which some draft length is as fast as the cloud alone, if any is."""
    return max((each.break_even_rtt_ms for each in found if each.break_even_rtt_ms is not None), default=None)


def verdicts(plans: Mapping[str, Sequence[Forecast]], known: Known, prices: Prices) -> list[str]:
    """A sentence for each method; in words where nothing can win, and why."""
    lines = []
    for method, found in plans.items():
        best, even = fastest(found), farthest_ms(found)
        name = (
            f"{method}: draft length {best.draft_length} is the best, {best.speedup:.2f} times the cloud alone"
        )
        step_ms = alone_ms(known, prices)
        if even is None:
            why = _why(best, step_ms, without=("round trip", "bytes"))
            lines.append(f"{method}: no draft length can win, even without a round trip, {why}.")
        elif even == float("inf"):
            lines.append(f"{name}, at any round trip.")
        elif best.speedup > 1:
            lines.append(f"{name}; it pays up to a round trip of {even:.1f} ms.")
        elif best.tokens_per_round < 1.005:
            lines.append(
                f"{method}: at a round trip of {prices.rtt_ms:g} ms it leaves decoding to the cloud; "
                f"below {even:.1f} ms it pays."
            )
        else:
            lines.append(
                f"{method}: no draft length wins at a round trip of {prices.rtt_ms:g} ms, "
                f"{_why(best, step_ms)}; below {even:.1f} ms it pays."
            )
    return lines


def _why(best: Forecast, step_ms: float, without: Sequence[str] = ()) -> str:
    """What the nearest setting wins and costs, in the target's steps, but for some parts of a round."""
    parts = {**best.terms, "verification": best.terms["verification"] - step_ms}
    parts = {name: took for name, took in parts.items() if name not in without}
    dearest = max(parts, key=lambda name: parts[name])
    return (
        f"because a round of {best.draft_length} saves {best.tokens_per_round - 1:.2f} single-token passes and "
        f"costs {sum(parts.values()) / step_ms:.2f}, mostly {dearest}"
    )


def served_by(known: Known, prices: Prices, method: Method, objective_ms: float) -> tuple[int, Load | None]:
    """The most clients of one target that keep to a time per token, and by which draft length (0: none)."""
    lengths = [1]
    if method.name != CONTROL:
        lengths = [fastest(forecasts(known, prices, method)).draft_length or 1, *DRAFT_LENGTHS]
    length, load = serving.most_served(
        lambda length: serving.scripts(known.client_texts, prices, method, length),
        prices,
        lengths,
        objective_ms,
    )
    return 0 if method.name == CONTROL else length, load
