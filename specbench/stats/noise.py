"""Whether the machine was quiet, by the control's repeats and steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from specbench.results.records import Generation
from specbench.stats.latency import chunk_gaps_ms

REPEAT_SPREAD = 0.05
DRIFT = 0.05
STEP_SPREAD = 0.15
FEWEST_STEPS = 8


def noise_notes(control: Sequence[Generation], repeats: int) -> list[str]:
    """Notes on uncertain timings, with the option that helps.

    The control does the same work again and again: in every repeat of a request, and (the cache grows slowly)
    in every step of an answer.
    """
    notes = []
    more = f"--repeats {repeats + 2}"
    spread = repeat_spread(control)
    if spread is not None and spread > REPEAT_SPREAD:
        notes.append(
            f"the machine was noisy: the control's repeats of one request differ by {spread:.0%}; {more} "
            "averages it out"
        )
    moved = drift(control)
    if moved is not None and abs(moved) > DRIFT:
        word = "slower" if moved > 0 else "faster"
        notes.append(
            f"the machine drifted: the control was {abs(moved):.0%} {word} in the last repeat than the first; "
            f"{more} averages it out"
        )
    steps = step_spread(control)
    if spread is None and steps is not None and steps > STEP_SPREAD:
        notes.append(
            f"the machine was noisy: the control's steps within one answer spread by {steps:.0%} (quartiles); "
            f"{more} averages it out"
        )
    return notes


def repeat_spread(control: Sequence[Generation]) -> float | None:
    """Relative standard deviation of TPOT between repeats of a request; `None` without repeats."""
    groups = [values for values in _log_tpots(control).values() if len(values) > 1]
    freedom = sum(len(values) - 1 for values in groups)
    if not freedom:
        return None
    within = sum(np.var(list(values.values())) * len(values) for values in groups)
    return math.sqrt(within / freedom)


def drift(control: Sequence[Generation]) -> float | None:
    """How much slower the last repeat was than the first, over the same requests; `None` without repeats."""
    last = max((record.repeat for record in control), default=0)
    moved = [
        values[last] - values[0]
        for values in _log_tpots(control).values()
        if last and {0, last} <= values.keys()
    ]
    return math.exp(sum(moved) / len(moved)) - 1 if moved else None


def step_spread(control: Sequence[Generation]) -> float | None:
    """Interquartile range over median of the time between steps of one answer; the median over answers."""
    spreads = []
    for record in control:
        gaps = chunk_gaps_ms(record)
        if len(gaps) >= FEWEST_STEPS:
            low, middle, high = np.percentile(gaps, [25, 50, 75])
            spreads.append((high - low) / middle if middle else 0.0)
    return float(np.median(spreads)) if spreads else None


def _log_tpots(control: Sequence[Generation]) -> dict[tuple[str, int, str], dict[int, float]]:
    """By request, by repeat."""
    found: dict[tuple[str, int, str], dict[int, float]] = {}
    for record in control:
        if record.tpot_ms:
            request = record.prompt_id, record.turn, record.prompt_sha256
            found.setdefault(request, {})[record.repeat] = math.log(record.tpot_ms)
    return found
