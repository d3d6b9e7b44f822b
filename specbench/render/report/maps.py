"""The page of a sweep: its answer and the chart behind it, then where each method wins, cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import log2

from specbench.forecast.breakeven import break_evens
from specbench.forecast.grid import Row, best, winner
from specbench.render.cells import bracketed
from specbench.render.forecasts import ALONE, UNDECIDED, cell_text, told_break_even, verdicts, where
from specbench.render.modelled import choice_cell, chosen_by, foot, label, other_objectives
from specbench.render.report.heat import FULL, facets, looks_in
from specbench.render.report.lengths import length_drawings, length_tables, panels
from specbench.render.report.roundtrips import round_trip_drawings
from specbench.render.report.sections import Section
from specbench.render.report.tabular import Table
from specbench.render.report.templates import render, shown_charts
from specbench.results.records import CONTROL

DEEPEST = 55  # per cent of colour under a text
Cell = tuple[str, str]
WINS = "Where each method wins"
NOTE = (
    "Each cell: the speed-up (ratio of geometric means over texts of the time per token) at the draft length "
    "that is best there. In brackets: the measured interval (95 %, corrected by Holm over the draft lengths, "
    "which were chosen on the same prompts) includes 1, or there is none. Teal cells are above 1x, red ones "
    "below."
)


def map_page(rows: Sequence[Row], title: str, notes: Sequence[str] = ()) -> str:
    """Rows of a grid as HTML: a map of the fastest method, and one for each method; every value is escaped.

    The first key that was varied goes down, the second across; a map is drawn for each value of the others.

    Raises:
        SpecbenchError: `[report]` is not installed.
    """
    answers = [length_drawings(rows), round_trip_drawings(rows)]
    if len(panels(rows)) > 1:  # too many to be read first
        answers.reverse()
    charts = shown_charts([drawing for drawn in answers for drawing in drawn])
    methods, looks = looks_in(rows)

    def fastest(by_method: dict[str, Row]) -> Cell:
        row = winner(by_method)
        if row is None:
            return UNDECIDED, "transparent"
        name = ALONE if row.method == CONTROL else f"{row.method} {cell_text(row)}"
        return name, f"color-mix(in srgb, var(--{looks[row.method][0]}) 30%, transparent)"

    sections = [*_lengths(rows), *_break_even(rows)]
    shown: dict[str, Callable[[dict[str, Row]], Cell]] = {"fastest": fastest}
    objectives = other_objectives(rows)
    for objective in objectives:
        shown[f"{objective} ({label(rows)})"] = _least_of(objective, rows, looks)
    for method in methods:
        shown[method] = _speedup_of(method)
    if len(rows[0].condition) == 1:
        sections.append(Section("winner", WINS, (), tables=(_line_table(rows, shown),)))
    elif rows[0].condition or not sections:
        sections.append(_heat("winner", WINS, rows, fastest))
        for objective in objectives:
            cell = _least_of(objective, rows, looks)
            sections.append(_heat(objective, f"The {objective} method ({label(rows)})", rows, cell))
        sections += [_heat(f"map-{name}", f"{name}: speed-up", rows, shown[name]) for name in methods]
    return render(
        "map.html.j2",
        brand="sweep",
        title=title,
        headline=headline(rows),
        first=next(iter(charts), None),
        verdicts=verdicts(rows),
        notes=notes,
        sections=sections,
        charts=charts,
        foot=f"{NOTE} {foot(rows)}" if objectives else NOTE,
    )


def _least_of(
    objective: str, rows: Sequence[Row], looks: Mapping[str, tuple[str, str]]
) -> Callable[[dict[str, Row]], Cell]:
    """What is best by energy or money under each condition, on the colour of its method."""
    chosen = chosen_by(rows, objective)

    def cell(by_method: dict[str, Row]) -> Cell:
        choice = chosen(by_method)
        color = f"color-mix(in srgb, var(--{looks[choice.method][0]}) 30%, transparent)" if choice else ""
        return choice_cell(choice, objective), color or "transparent"

    return cell


def headline(rows: Sequence[Row]) -> str:
    """The answer in one sentence: whether speculation pays anywhere, and where it pays most."""
    conditions = best(rows)
    found = [row for by_method in conditions for row in by_method.values() if row.competes]
    if not found:
        return "No method of this sweep can be compared with the cloud alone"
    top = max(found, key=lambda row: (row.pays, bool(row.lossless), row.rank))
    told = f"{top.speedup:.2f}x{bracketed(top.interval)}"
    told += "" if top.draft_length is None else f" with draft length {top.draft_length}"
    told += f" at {where(top.condition)}" if len(conditions) > 1 else ""
    told += "" if top.lossless else ", but its text may differ from the cloud's"
    if not top.pays:
        return f"No method is shown to be faster than the cloud alone: the best, {top.method}, reaches {told}"
    if len(conditions) == 1:
        return f"{top.method} is faster than the cloud alone: {told}"
    count = sum(any(row.competes and row.pays for row in by_method.values()) for by_method in conditions)
    return f"Speculation pays under {count} of {len(conditions)} conditions: at best {top.method}, {told}"


def _break_even(rows: Sequence[Row]) -> list[Section]:
    """The break-even map: a chart, and a table with a line for each condition beside the round trip."""
    evens = break_evens(rows)
    if not evens:
        return []
    lines: dict[str, dict[str, str]] = {}
    for even in evens:
        lines.setdefault(where(even.condition), {})[even.method] = told_break_even(even)
    methods = tuple(dict.fromkeys(even.method for even in evens))
    columns: tuple[str, ...] = ("", *methods)
    cells = tuple((place, *(found.get(method, "-") for method in methods)) for place, found in lines.items())
    if list(lines) == [""]:
        columns, cells = ("method", "pays"), tuple(lines[""].items())
    lead = (
        "The round trip at which a method, with the draft length that is best there, is as fast as the cloud "
        "alone. It is interpolated between two round trips of the grid."
    )
    table = Table("Break-even round trips", columns, cells)
    return [Section("break-even", "Break-even round trip", (lead,), ("break-even",), (table,))]


def _lengths(rows: Sequence[Row]) -> list[Section]:
    """Speed-up over the draft length: a chart, and a table for each of its panels."""
    tables, drawn = tuple(length_tables(rows)), length_drawings(rows)
    if not tables and not drawn:
        return []
    lead = (
        "Speed per token against the cloud alone. Bars are measured intervals (95 %, corrected by Holm over "
        "the lengths), from 12 prompts on. A hollow point: its interval includes 1, or there is none."
    )
    charts = tuple(each.name for each in drawn)
    return [Section("draft-length", "Draft length", (lead,), charts, folded=tables)]


def _heat(name: str, heading: str, rows: Sequence[Row], cell: Callable[[dict[str, Row]], Cell]) -> Section:
    tables = tuple(_heat_table(*part, cell) for part in facets(rows))
    return Section(name, heading, (), tables=tables)


def _line_table(rows: Sequence[Row], shown: Mapping[str, Callable[[dict[str, Row]], Cell]]) -> Table:
    """Of one key that was varied: a line a value, a column for each that is shown."""
    ((_, keys, found),) = facets(rows)
    cells = [(value, [cell(by_method) for cell in shown.values()]) for (value,), by_method in found.items()]
    lines = tuple((value, *(text for text, _ in line)) for value, line in cells)
    colors = tuple(tuple(color for _, color in line) for _, line in cells)
    return Table("", (keys[0], *shown), lines, colors=colors)


def _heat_table(
    name: str, keys: list[str], found: dict[tuple, dict[str, Row]], cell: Callable[[dict[str, Row]], Cell]
) -> Table:
    downs = list(dict.fromkeys(values[:1] for values in found))
    acrosses = list(dict.fromkeys(values[1:] for values in found))
    rows, colors = [], []
    for down in downs:
        places = [found.get((*down, *across)) for across in acrosses]
        cells = [cell(by_method) if by_method else ("-", "transparent") for by_method in places]
        rows.append(("".join(map(str, down)), *(text for text, _ in cells)))
        colors.append(tuple(color for _, color in cells))
    columns = (keys[0] if keys else "", *(" = ".join(map(str, (*keys[1:], *across))) for across in acrosses))
    return Table(name, columns, tuple(rows), colors=tuple(colors))


def _speedup_of(method: str) -> Callable[[dict[str, Row]], Cell]:
    """A cell with one method's speed-up."""
    return lambda found: _shaded(found.get(method))


def _shaded(row: Row | None) -> Cell:
    """A speed-up on its colour: the deeper, the farther from 1."""
    if row is None or row.is_open or not row.competes:
        return cell_text(row), "transparent"
    depth = min(1.0, abs(log2(row.speedup)) / log2(FULL)) if row.speedup > 0 else 1.0
    ink = "faster" if row.speedup > 1 else "slower"
    return cell_text(row), f"color-mix(in srgb, var(--{ink}) {depth * DEEPEST:.0f}%, transparent)"
