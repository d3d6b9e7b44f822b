"""The one sentence that answers a comparison's question: is any method faster, and by how much?"""

from __future__ import annotations

from collections.abc import Sequence

from specbench.results.derived import Comparison, MethodSummary
from specbench.results.records import CONTROL, SYNTHETIC
from specbench.stats.comparison import MODEL_GENERATE
from specbench.stats.row_names import base
from specbench.stats.verdict import EQUIVALENT, FASTER, FEWEST_PROMPTS, RESTARTS, SLOWER, UNDECIDED


def headline(comparison: Comparison) -> str:
    """The answer as one sentence, or why there is none. Only methods that keep the target's text compete."""
    if comparison.unfair:
        return "No verdict: the runs are not comparable."
    if comparison.faults:
        return f"No verdict: {comparison.faults[0]}."
    if wrong := [row.method for row in comparison.methods if row.bugs]:
        return f"No verdict: {', '.join(wrong)} produced wrong text."
    if comparison.control is None:
        return "No verdict: the control was not measured, so there is no speed-up."
    rows = _competing(comparison)
    if not rows and any(row.verification == SYNTHETIC for row in comparison.methods):
        return "No verdict: acceptance is synthetic, so times are measured and texts mean nothing."
    if not rows:
        return "No verdict: no method that keeps the target's text was measured beside the control."
    answer = _answer(rows)
    return f"{answer} But most texts repeat themselves." if comparison.mostly_repeats else answer


def leader(comparison: Comparison) -> MethodSummary | None:
    """The row that the sentence is about; `None` where it gives no figures."""
    rows = _competing(comparison)
    spoilt = comparison.unfair or comparison.faults or any(row.bugs for row in comparison.methods)
    return None if spoilt or not rows else _best(rows)


def ranked(comparison: Comparison) -> list[MethodSummary]:
    """All rows: controls, lossless methods by speed, lossy methods, then texts of other models."""

    def place(row: MethodSummary) -> tuple[bool, int, float]:
        group = (True, False, None).index(row.lossless)
        return base(row.method) != CONTROL, group, -(row.speedup_vs_control or 0.0)

    return sorted(comparison.methods, key=place)


def compared(comparison: Comparison) -> list[MethodSummary]:
    """The ranked rows that have a speed-up: not the control, nor a text of another model."""
    return [
        row
        for row in ranked(comparison)
        if row.lossless is not None and row.speedup_vs_control is not None and base(row.method) != CONTROL
    ]


def _competing(comparison: Comparison) -> list[MethodSummary]:
    lossless = [row for row in comparison.judged if row.lossless]
    if any(base(row.method) != CONTROL for row in comparison.methods):
        lossless = [row for row in lossless if base(row.method) != CONTROL]  # a control of another run
    return [
        row for row in lossless if base(row.method) != MODEL_GENERATE
    ] or lossless  # which is the cloud alone


def _best(rows: Sequence[MethodSummary]) -> MethodSummary:
    """The fastest row with the strongest verdict."""
    words = (FASTER, UNDECIDED, None, EQUIVALENT, SLOWER)
    verdict = next(word for word in words if any(row.verdict == word for row in rows))
    return max((row for row in rows if row.verdict == verdict), key=lambda row: row.speedup_vs_control or 0.0)


def _answer(rows: Sequence[MethodSummary]) -> str:
    """The strongest verdict among these rows, with the figures of the row that has it."""
    best = _best(rows)
    verdict, found = best.verdict, [row for row in rows if row.verdict == best.verdict]
    name = f"{best.method} (not verified)" if best.unverified else best.method
    if best.speedup_vs_control is None:
        return f"No verdict: no answer of {name} can be paired with the control's."
    if best.speedup_interval is None:
        return (
            f"No verdict yet: it takes {FEWEST_PROMPTS} prompts, and {best.paired_prompts} were paired. So far "
            f"{name} is at {best.speedup_vs_control:.2f}x."
        )
    low, high = best.speedup_interval
    over = f" over {best.restarts} restarts and {best.paired_prompts} prompts"
    over = over if RESTARTS in best.interval_levels else ""
    figures = f"{best.speedup_vs_control:.2f}x ({low:.2f} to {high:.2f}{over})"
    if verdict == FASTER:
        lead = f"{name} is fastest" if len(found) > 1 else f"{name} is faster than the cloud alone"
        return f"{lead}: {figures}, {_text(best)}."
    if verdict == UNDECIDED:
        return f"Inconclusive: {name} is at {figures}, which includes 1.0."
    if verdict == EQUIVALENT:
        return f"No difference: {name} equals the cloud alone within 3 %: {figures}."
    if len(rows) == 1:
        return f"{name} is slower than the cloud alone: {figures}, {_text(best)}."
    return f"No method is faster than the cloud alone. The closest is {name}: {figures}."


def _text(row: MethodSummary) -> str:
    """Whether the text is the control's, in words."""
    if row.exact_match is None:
        return "lossless"
    return "same text" if row.exact_match == 1 else f"{row.exact_match:.1%} of texts identical"
