"""The answer of a comparison: which method is fastest, by how much, and whether its text is the cloud's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specbench.results.derived import Comparison, MethodSummary
from specbench.results.records import CONTROL
from specbench.stats.comparison import MODEL_GENERATE
from specbench.stats.row_names import base
from specbench.stats.verdict import EQUIVALENT, FASTER, FEWEST_PROMPTS, SLOWER, UNDECIDED


@dataclass(frozen=True)
class Answer:
    """One sentence, and the row that it is about.

    Args:
        best: the row with the highest speed-up of those that count; `None` where nothing can be compared.
        verdict: that of `best`, where the sentence gives one.
    """

    sentence: str
    best: MethodSummary | None = None
    verdict: str | None = None


def ranked(comparison: Comparison) -> list[MethodSummary]:
    """All rows: controls, then lossless methods from the fastest to the slowest, lossy ones, other texts."""

    def place(row: MethodSummary) -> tuple[bool, int, float]:
        group = (True, False, None).index(row.lossless)
        return base(row.method) != CONTROL, group, -(row.speedup_vs_control or 0.0)

    return sorted(comparison.methods, key=place)


def compared(comparison: Comparison) -> list[MethodSummary]:
    """The ranked rows whose speed-up says something: not the control, nor a text of another model."""
    return [
        row
        for row in ranked(comparison)
        if row.lossless is not None and row.speedup_vs_control is not None and base(row.method) != CONTROL
    ]


def answer(comparison: Comparison) -> Answer:
    """What the methods show together, and no more."""
    rows = [row for row in compared(comparison) if base(row.method) != MODEL_GENERATE]
    lossless = [row for row in rows if row.lossless]
    rows = lossless or rows
    best = _best(rows)
    if comparison.unfair:
        return Answer("No fair verdict: the runs differ", best)
    if comparison.faults:
        return Answer("No verdict: the file of a run is damaged", best)
    if wrong := [row.method for row in comparison.methods if row.bugs]:
        return Answer(f"No verdict: {', '.join(wrong)} gave wrong texts", best)
    if best is None:
        return Answer(_nothing(comparison))
    if comparison.mostly_repeats:
        return Answer(f"Measured on texts that repeat themselves: {best.method} reaches {figure(best)}", best)
    told = f"{_pays(best, rows)}, {_text(best, comparison)}"
    if best.unverified:
        told += "; its figures are not verified"
    return Answer(told, best, best.verdict)


def figure(row: MethodSummary) -> str:
    """A speed-up with its interval: `1.52x (1.03 to 2.25)`."""
    low_high = row.speedup_interval
    return f"{row.speedup_vs_control:.2f}x" + (f" ({low_high[0]:.2f} to {low_high[1]:.2f})" if low_high else "")


def _best(rows: Sequence[MethodSummary]) -> MethodSummary | None:
    """The fastest of those with the best verdict."""
    order = {FASTER: 0, EQUIVALENT: 1, UNDECIDED: 1, None: 1, SLOWER: 2}
    return min(rows, key=lambda row: (order[row.verdict], -(row.speedup_vs_control or 0.0)), default=None)


def _pays(best: MethodSummary, rows: Sequence[MethodSummary]) -> str:
    """The verdict on the best row, as the first half of a sentence."""
    name, shown = best.method, figure(best)
    if best.verdict == FASTER:
        leads = len(rows) > 1 and all(
            (row.speedup_vs_control or 0.0) <= (best.speedup_vs_control or 0.0) for row in rows
        )
        return f"{name} is {'fastest' if leads else 'faster than the cloud alone'}: {shown}"
    if best.verdict == SLOWER:
        if len(rows) > 1:
            return f"No method is faster than the cloud alone: the best, {name}, reaches {shown}"
        return f"{name} is slower than the cloud alone: {shown}"
    if best.verdict == EQUIVALENT:
        return f"{name} is as fast as the cloud alone, within 3 %: {shown}"
    if best.verdict == UNDECIDED:
        if len(rows) > 1:
            return f"No method is shown to be faster than the cloud alone: the best, {name}, reaches {shown}"
        return f"No difference shown: {name} reaches {shown}"
    count = f"{best.paired_prompts} of {FEWEST_PROMPTS} prompts"
    return f"Too few prompts for a verdict ({count}): {name} reaches {shown} so far"


def _text(row: MethodSummary, comparison: Comparison) -> str:
    """Whether the text is the cloud's, as the second half of a sentence."""
    if not row.lossless:
        return "but its text may differ from the cloud's"
    if row.exact_match is None:
        return "same distribution of texts as the cloud alone"
    if row.exact_match == 1:
        return "same text as the cloud alone"
    ties = [part.verdict == "tie" for part in comparison.divergences if part.method == row.method]
    rest = ", the rest are ties" if ties and all(ties) else ""
    return f"{row.exact_match:.0%} of its texts are the cloud's{rest}"


def _nothing(comparison: Comparison) -> str:
    if comparison.control is None:
        return "No speed-up: the control, the cloud alone in the same loop, was not run"
    if any(row.lossless is None for row in comparison.methods):
        return "No speed-up: only texts of another model were compared with the cloud alone"
    return "No speed-up: no method was run beside the control"
