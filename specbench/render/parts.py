"""Tables of parts of a run: by length of the prompt, by position in the answer, by category."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import RenderableType
from rich.text import Text

from specbench.render.cells import interval_text, number, percent
from specbench.render.fitting import Cell, Fitted
from specbench.results.derived import Comparison, MethodSummary
from specbench.results.parts import CategoryAnswers, Stretch
from specbench.stats.stretches import CONTEXT, POSITION

ACCEPTANCE_COLUMNS = ("first token\naccepted", "accept\nrate", "accept\nlength", "95 %\ninterval")
STRETCH_COLUMNS = ("tokens", "answers", "TTFT\nms", "TPOT\nms", *ACCEPTANCE_COLUMNS, "speed-up\nvs control")
CATEGORY_ANSWER_COLUMNS = ("category", "prompts", *ACCEPTANCE_COLUMNS, "score")
PART_COLUMNS = (
    "tokens", "draft\nms", "link\nms", "verify\nms", "sum of\nparts ms", "TPOT\nms", "parts over\nTPOT",
    "rest\nms", "prompt read\nto draft ms",
)  # fmt: skip
TITLES = {CONTEXT: "by tokens of the prompt", POSITION: "by position in the answer"}


def parts_of(comparison: Comparison, named: Callable[[MethodSummary], Text]) -> list[RenderableType]:
    """The tables for which there are figures, each below its title.

    Args:
        named: a row's name, as all tables show it.
    """
    names = {row.method: named(row) for row in comparison.methods}
    shown: list[RenderableType] = []
    for of, title in TITLES.items():
        if found := [each for each in comparison.stretches if each.of == of]:
            rows: list[tuple[Cell, ...]] = [(names[each.method], *stretch_cells(each)) for each in found]
            shown += [Text(title), _table(STRETCH_COLUMNS, rows)]
        if timed := [each for each in found if each.parts_ms is not None]:
            rows = [(names[each.method], *part_cells(each)) for each in timed]
            shown += [Text(f"time per token {title}"), _table(PART_COLUMNS, rows)]
    if comparison.category_answers:
        rows = [(names[each.method], *category_answer_cells(each)) for each in comparison.category_answers]
        shown += [Text("acceptance by category"), _table(CATEGORY_ANSWER_COLUMNS, rows)]
    return shown


def _table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Fitted:
    return Fitted(("method", columns[0]), columns[1:], rows)


def stretch_cells(stretch: Stretch) -> tuple[str, ...]:
    """The figures of `STRETCH_COLUMNS`."""
    return (
        f"{stretch.first} to {stretch.last}",
        str(stretch.answers),
        number(stretch.ttft_ms),
        number(stretch.tpot_ms),
        *_acceptance_cells(stretch),
        number(stretch.speedup, 2, "x"),
    )


def _acceptance_cells(found: Stretch | CategoryAnswers) -> tuple[str, ...]:
    return (
        percent(found.first_accepted),
        number(found.acceptance_rate, 3),
        number(found.acceptance_length, 2),
        interval_text(found.length_interval),
    )


def category_answer_cells(found: CategoryAnswers) -> tuple[str, ...]:
    """The figures of `CATEGORY_ANSWER_COLUMNS`."""
    return found.category, str(found.prompts), *_acceptance_cells(found), percent(found.score)


def part_cells(stretch: Stretch) -> tuple[str, ...]:
    """The figures of `PART_COLUMNS`."""
    parts_ms, tpot_ms = stretch.parts_ms, stretch.tpot_ms
    return (
        f"{stretch.first} to {stretch.last}",
        *(number(each, 3) for each in (stretch.draft_ms, stretch.link_ms, stretch.verify_ms)),
        number(parts_ms, 2),
        number(tpot_ms, 2),
        percent(parts_ms / tpot_ms if parts_ms is not None and tpot_ms else None),
        number(stretch.other_ms, 3),
        number(stretch.read_ms),
    )
