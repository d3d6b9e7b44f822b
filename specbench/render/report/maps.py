"""The page of a sweep: where each method wins, as tables whose cells are coloured, and where it breaks even."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from math import log2

from specbench import __version__
from specbench.analysis.breakeven import break_evens
from specbench.analysis.grid import Row, winner
from specbench.records import CONTROL
from specbench.render.report import pictures
from specbench.render.report.heat import FULL, curves, facets
from specbench.render.report.inks import of_methods
from specbench.render.report.lengths import length_drawings, length_tables
from specbench.render.report.marks import Drawing
from specbench.render.report.page import style
from specbench.render.report.pictures import printable
from specbench.render.schedules import cell_text, told_break_even, verdicts

DEEPEST = 55  # per cent of colour under a text
Cell = tuple[str, str]
NOTE = (
    "Each cell: how many times faster than the cloud alone a token comes (ratio of geometric means over "
    "texts), at the draft length that is best there; in brackets where a measured interval (95 %, corrected by "
    "Holm over the draft lengths, which were chosen on the same prompts) holds 1 or there is none. Blue is "
    "faster, orange slower."
)


def map_page(rows: Sequence[Row], title: str, notes: Sequence[str] = ()) -> str:
    """Rows of a grid as HTML: a map of the fastest method, and one for each method; every value is escaped.

    The first key that was varied goes down, the second across; a map is drawn for each value of the others.

    Raises:
        SpecbenchError: `[report]` is not installed.
    """
    pictures.demand_extra()
    methods = list(dict.fromkeys(row.method for row in rows if row.method != CONTROL))
    looks = of_methods([CONTROL, *methods], CONTROL)

    def fastest(by_method: dict[str, Row]) -> Cell:
        row = winner(by_method)
        if row is None:
            return "undecided", "transparent"
        name = "the cloud alone" if row.method == CONTROL else f"{row.method} {cell_text(row)}"
        return name, f"color-mix(in srgb, var(--{looks[row.method][0]}) 30%, transparent)"

    sections = _break_even(rows) + _lengths(rows)
    if rows[0].condition or not sections:
        sections += _section("Where each method wins", rows, fastest)
        for method in methods:
            sections += _section(method, rows, lambda found, method=method: _shaded(found.get(method)))
    lines = "".join(f'<p class="verdict">{_text(line)}</p>' for line in verdicts(rows))
    told = "".join(f"<li>{_text(note)}</li>" for note in notes)
    if told:
        told = f'<aside aria-label="What to know"><h2>To know beside the figures</h2><ul>{told}</ul></aside>'
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:"><meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{_text(title)} - specbench</title><style>{style()}"
        "td.heat{text-align:right;overflow-wrap:normal;print-color-adjust:exact}</style></head>\n"
        f'<body><header><p class="brand">specbench</p><h1>Where does speculation pay?</h1>{lines}'
        f'<p class="setting">{_text(title)}</p>{told}</header>\n<main>{sections}</main>\n'
        f"<footer>{_text(NOTE)} specbench {_text(__version__)}.</footer></body></html>\n"
    )


def _break_even(rows: Sequence[Row]) -> str:
    """The break-even map: a chart, and a table with a line for each condition beside the round trip."""
    evens, parts = break_evens(rows), ""
    if not evens:
        return ""
    parts += "".join(map(_figure, curves(rows)))
    methods, lines = list(dict.fromkeys(even.method for even in evens)), {}
    for even in evens:
        where = ", ".join(f"{key} = {value}" for key, value in even.condition.items())
        lines.setdefault(where, {})[even.method] = told_break_even(even)
    head = "".join(f'<th scope="col" class="figure">{_text(method)}</th>' for method in methods)
    body = "".join(
        f'<tr><th scope="row">{_text(where)}</th>'
        + "".join(f'<td class="figure">{_text(found.get(method, "-"))}</td>' for method in methods)
        + "</tr>"
        for where, found in lines.items()
    )
    return (
        "<section><h2>Up to which round trip does it pay?</h2><p>Where a method, at the draft length that is "
        "best at each round trip, is as fast as the cloud alone: on a line between two of the grid.</p>"
        f'{parts}<div class="scroll" role="region" tabindex="0" aria-label="Break-even round trips"><table>'
        f'<thead><tr><th scope="col"></th>{head}</tr></thead><tbody>{body}</tbody></table></div></section>\n'
    )


def _figure(drawing: Drawing) -> str:
    wide, narrow = (pictures.on_page(drawing, width) for width in (pictures.PAGE_PX, pictures.PHONE_PX))
    return (
        f'<figure><figcaption>{_text(drawing.title)}</figcaption><div class="wide">{wide}</div>'
        f'<div class="narrow">{narrow}</div></figure>'
    )


def _lengths(rows: Sequence[Row]) -> str:
    """Speed-up over the draft length: a chart, and a table for each of its panels."""
    parts = "".join(map(_figure, length_drawings(rows)))
    for table in length_tables(rows):
        head = "".join(f'<th scope="col" class="figure">{_text(name)}</th>' for name in table.columns)
        body = ""
        for name, *cells in table.rows:
            figures = "".join(f'<td class="figure">{_text(cell)}</td>' for cell in cells)
            body += f'<tr><th scope="row" class="figure">{_text(name)}</th>{figures}</tr>'
        parts += (
            f'<div class="scroll" role="region" tabindex="0" aria-label="{_text(table.caption)}"><table>'
            f"<caption><span>{_text(table.caption)}</span></caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )
    if not parts:
        return ""
    return (
        "<section><h2>Which draft length?</h2><p>Speed per token against the cloud alone. Bars are measured "
        "intervals (95 %, corrected by Holm over the lengths); a hollow point is one that holds 1 or has "
        f"none.</p>{parts}</section>\n"
    )


def _section(heading: str, rows: Sequence[Row], cell: Callable[[dict[str, Row]], Cell]) -> str:
    tables = "".join(_table(*part, cell) for part in facets(rows))
    return f"<section><h2>{_text(heading)}</h2>{tables}</section>\n"


def _table(
    name: str, keys: list[str], found: dict[tuple, dict[str, Row]], cell: Callable[[dict[str, Row]], Cell]
) -> str:
    downs = list(dict.fromkeys(values[:1] for values in found))
    acrosses = list(dict.fromkeys(values[1:] for values in found))
    head = "".join(
        f'<th scope="col" class="figure">{_text(" = ".join(map(str, (*keys[1:], *across))))}</th>'
        for across in acrosses
    )
    body = ""
    for down in downs:
        body += f'<tr><th scope="row">{_text("".join(map(str, down)))}</th>'
        for across in acrosses:
            by_method = found.get((*down, *across))
            text, color = cell(by_method) if by_method else ("-", "transparent")
            body += f'<td class="heat" style="background:{color}">{_text(text)}</td>'
        body += "</tr>"
    corner = _text(keys[0] if keys else "")
    caption = f"<caption><span>{_text(name)}</span></caption>" if name else ""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{_text(name or corner)}"><table>{caption}'
        f'<thead><tr><th scope="col">{corner}</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _shaded(row: Row | None) -> Cell:
    """A speed-up on its colour: the deeper, the farther from 1."""
    if row is None or row.is_open or not row.competes:
        return cell_text(row), "transparent"
    depth = min(1.0, abs(log2(row.speedup)) / log2(FULL)) if row.speedup > 0 else 1.0
    ink = "series0" if row.speedup > 1 else "series1"
    return cell_text(row), f"color-mix(in srgb, var(--{ink}) {depth * DEEPEST:.0f}%, transparent)"


def _text(value: str) -> str:
    return escape(printable(value))
