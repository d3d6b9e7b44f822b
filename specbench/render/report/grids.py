"""The rows of a grid as files: CSV, JSON and Markdown, and its charts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields

from specbench.forecast.breakeven import break_evens
from specbench.forecast.grid import Grid, Row, best, winner
from specbench.forecast.objectives import choices
from specbench.render import modelled
from specbench.render.forecasts import (
    MAP_FOOT,
    cell_text,
    drafting,
    told_break_even,
    verdicts,
    where,
    winner_name,
)
from specbench.render.report.documents import markdown_table, plain
from specbench.render.report.heat import map_drawings
from specbench.render.report.lengths import length_drawings, length_tables
from specbench.render.report.marks import Drawing
from specbench.render.report.pictures import demand_methods
from specbench.render.report.roundtrips import round_trip_drawings
from specbench.render.report.tabular import ENDS, Table, csv_text, ends
from specbench.results.records import CONTROL

FIGURES = tuple(field.name for field in fields(Row) if field.name not in ("condition", "interval", "measured"))


def grid_document(rows: Sequence[Row], **head: object) -> dict:
    """The JSON of a grid: what it was made of, every row, break-even, and the best by each objective."""
    return {
        **head,
        "rows": [asdict(row) for row in rows],
        "break_even": [asdict(even) for even in break_evens(rows)],
        "choices": [asdict(each) for each in choices(rows)],
    }


def grid_json(grid: Grid) -> str:
    """The text of that."""
    document = grid_document(grid.rows, **grid.head)
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def grid_csv(rows: Sequence[Row]) -> str:
    """A line a row: the varied values by their keys, then its figures; unknown ones empty."""
    keys = list(rows[0].condition) if rows else []
    lines = [
        {**row.condition, **{name: getattr(row, name) for name in FIGURES}, **ends(row.interval)}
        for row in rows
    ]
    return csv_text([*keys, *FIGURES, *ENDS], lines)


def grid_markdown(rows: Sequence[Row], title: str, notes: Sequence[str] = ()) -> str:
    """Verdicts, what to know beside them, the map, and where each method breaks even."""
    methods = drafting(rows)
    lines = [f"# {plain(title)}", "", *(f"{plain(line)}\n" for line in verdicts(rows))]
    lines += [*(f"- {plain(note)}" for note in notes), ""] if notes else []
    keys, cells = list(rows[0].condition), []
    for found in best(rows):
        control = found[CONTROL]
        values = [str(value) for value in control.condition.values()]
        speeds = [cell_text(found.get(method)) for method in methods]
        cells.append((*values, f"{control.tpot_ms:.2f}", *speeds, winner_name(winner(found))))
    columns = (*keys, "cloud alone ms a token", *methods, "fastest")
    tables = length_tables(rows)
    if keys or not tables:
        lines += markdown_table(Table("Where each method wins", columns, tuple(cells), names=0))
    for table in tables:
        lines += markdown_table(table)
    if names := modelled.objective_columns(rows):
        chosen = tuple(modelled.choice_rows(rows))
        lines += markdown_table(Table(modelled.heading(rows), (*keys, *names), chosen, names=0))
        lines += [plain(modelled.foot(rows)), ""]
    if evens := break_evens(rows):
        told = tuple((even.method, where(even.condition), told_break_even(even)) for even in evens)
        lines += markdown_table(
            Table("Up to which round trip it pays", ("method", "where", "pays"), told, names=2)
        )
    return "\n".join([*lines, plain(MAP_FOOT)]) + "\n"


def grid_drawings(rows: Sequence[Row]) -> list[Drawing]:
    """Every chart of a grid, the one that answers most first."""
    return [*length_drawings(rows), *round_trip_drawings(rows), *map_drawings(rows)]


def chosen_rows(rows: Sequence[Row], methods: Sequence[str]) -> Sequence[Row]:
    """The rows of these methods and of the control; all where none is named.

    Raises:
        SpecbenchError: there is no such method in them.
    """
    demand_methods(methods, list(dict.fromkeys(row.method for row in rows)), "sweep")
    return [row for row in rows if row.method in (CONTROL, *methods)] if methods else rows
