"""Speed-up over the draft length, with its intervals: the chart, and the table behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from specbench.forecast.breakeven import RTT
from specbench.forecast.grid import Row
from specbench.render.cells import bracketed, interval_text
from specbench.render.forecasts import cell_text
from specbench.render.report.inks import STEPS, WIDE_PX, Ink, alt, by_name, of_methods, of_steps
from specbench.render.report.marks import (
    Drawing,
    at_one,
    data,
    intervals,
    layered,
    row_figures,
    side_by_side,
    titled,
)
from specbench.render.report.tabular import Table
from specbench.results.records import CONTROL

MOST_LINES, MOST_PANELS, MOST_COLUMNS = STEPS, 12, 12
SPEEDUP = "speed-up (x)"
PANEL_PX = 220
APART, SPREAD = 0.14, 0.5  # between two lines, and over all of them, of the space between two lengths
FEW_LENGTHS = 10  # are all named, however narrow the chart


@dataclass(frozen=True)
class Panel:
    """Lines that are drawn together: by the value that tells them apart, their rows by draft length.

    Args:
        heading: what all of them share; empty where there is one panel.
        key: what tells them apart: a key that was varied, or the method.
    """

    heading: str
    key: str
    lines: dict[str, list[Row]]


def panels(rows: Sequence[Row]) -> list[Panel]:
    """Every method at every draft length; a line a round trip, else a value of the first key that was varied.

    Where nothing else was varied, the methods are the lines. Empty where no method was asked at two lengths.
    """
    drafting = [row for row in rows if row.competes and row.draft_length is not None]
    if len({row.draft_length for row in drafting}) < 2:
        return []
    varied = [key for key in drafting[0].condition if len({str(row.condition[key]) for row in drafting}) > 1]
    key = RTT if RTT in varied else varied[0] if varied else "method"
    found: dict[str, dict[str, list[Row]]] = {}
    for row in drafting:
        shared = [row.method] if varied else []
        shared += [f"{name} = {row.condition[name]}" for name in varied if name != key]
        line = row.method if key == "method" else str(row.condition[key])
        found.setdefault(", ".join(shared), {}).setdefault(line, []).append(row)
    kept = {heading: lines for heading, lines in found.items() if any(len(each) > 1 for each in lines.values())}
    return [
        Panel(heading, key, {name: sorted(each, key=_place) for name, each in lines.items()})
        for heading, lines in kept.items()
    ]


def length_tables(rows: Sequence[Row]) -> list[Table]:
    """A line a draft length, a column a line of the chart; a wide grid has none, and its files hold all."""
    found = []
    for panel in panels(rows)[:MOST_PANELS]:
        if len(panel.lines) > MOST_COLUMNS:
            continue
        lengths = sorted({row.draft_length for each in panel.lines.values() for row in each}, key=_order)
        cells = [(str(length), *(_cell(each, length) for each in panel.lines.values())) for length in lengths]
        names = [name if panel.key == "method" else f"{panel.key} = {name}" for name in panel.lines]
        caption = "Speed-up by draft length" + (f": {panel.heading}" if panel.heading else "")
        found.append(Table(caption, ("draft length", *names), tuple(cells), names=0))
    return found


def length_drawings(rows: Sequence[Row]) -> list[Drawing]:
    """The chart; none where no method was asked at two draft lengths."""
    known = panels(rows)
    if not known:
        return []
    drawn = [replace(panel, lines=_spread(panel.lines)) for panel in known[:MOST_PANELS]]
    title = "Speed-up over the draft length; where it pays, it is above 1"
    most = max(len(panel.lines) for panel in known)
    left_out = [f"{MOST_LINES} of {most} lines"] * (most > MOST_LINES)
    left_out += [f"{MOST_PANELS} of {len(known)} panels"] * (len(known) > MOST_PANELS)
    title += f" ({' and '.join(left_out)} are drawn)" if left_out else ""
    points = [_points(panel) for panel in drawn]
    told = "; ".join(point["label"] for each in points for point in each)
    key, names = drawn[0].key, list(dict.fromkeys(name for panel in drawn for name in panel.lines))
    looks = of_methods([CONTROL, *names], CONTROL) if key == "method" else of_steps(names)
    figures = tuple(point["figures"] for each in points for point in each)

    def draw(ink: Ink, width: int) -> alt.ConcatChart:
        columns = 1 if len(points) == 1 or width < WIDE_PX else 2
        title = None if key == "method" else "round trip (ms)" if key == RTT else key
        color, shape = by_name("line", names, looks, ink, width, title)
        every = [point for each in points for point in each]
        low, high = min(0.95, *(p["low"] for p in every)), max(1.05, *(p["high"] for p in every))
        room = 0.05 * (high - low)
        scale = alt.Scale(domain=[low - room, high + room], nice=False, zero=False)
        charts = {
            panel.heading: layered(*_marks(found, ink, width, scale, color, shape)).properties(height=PANEL_PX)
            for panel, found in zip(drawn, points, strict=True)
        }
        return side_by_side(charts, ink, width, columns)

    return [Drawing("draft-length", title, told, draw, figures)]


def _marks(
    found: Sequence[dict], ink: Ink, width: int, scale: alt.Scale, color: alt.Color, shape: alt.Shape
) -> list[alt.Chart]:
    """One panel: the line at 1, the intervals, the lines, and a point a length, hollow where it is open."""
    places = {point["place"]: point["length"] for point in found}
    names = " : ".join(f"datum.value == {place} ? '{name}'" for place, name in places.items())
    x = alt.X(
        "at:Q", title=titled("draft length (tokens drafted a round)", width),
        scale=alt.Scale(domain=[min(places) - 0.6, max(places) + 0.6], nice=False, zero=False),
        axis=alt.Axis(values=sorted(places), labelExpr=f"{names} : ''", grid=False,
                      tickCount=len(places), labelOverlap=len(places) > FEW_LENGTHS),
    )  # fmt: skip
    y = alt.Y("speedup:Q", title=SPEEDUP, scale=scale)
    base = alt.Chart(data([{**point, "figures": None} for point in found])).encode(x=x, color=color)
    numbered = base.transform_filter("datum.length != 'auto'")
    fill = alt.condition("datum.open", alt.value(ink["paper"]), color)
    known, low = base.transform_filter("datum.known"), alt.Y("low:Q", title=SPEEDUP, scale=scale)
    return [
        at_one(ink["ink"], "y", y),
        intervals(known, "y", low, strokeWidth=2, opacity=0.7),
        numbered.mark_line(strokeWidth=2.5).encode(y=y),
        base.mark_point(size=70, opacity=1, strokeWidth=2).encode(
            y=y, shape=shape, fill=fill, description="label:N"
        ),
    ]


def _points(panel: Panel) -> list[dict]:
    points = []
    for index, (name, rows) in enumerate(panel.lines.items()):
        others = len(panel.lines) - 1
        aside = (index - others / 2) * min(APART, SPREAD / max(1, others))
        longest = max((row.draft_length for each in panel.lines.values() for row in each
                       if isinstance(row.draft_length, int)), default=0)  # fmt: skip
        for row in rows:
            place = row.draft_length if isinstance(row.draft_length, int) else longest + 1
            low, high = row.interval or (row.speedup, row.speedup)
            points.append(
                {"line": name, "length": str(row.draft_length), "place": place, "at": place + aside,
                 "speedup": row.speedup, "low": low, "high": high, "known": row.interval is not None,
                 "open": row.is_open, "label": _told(panel, name, row),
                 "figures": row_figures(row)}
            )  # fmt: skip
    return points


def _told(panel: Panel, name: str, row: Row) -> str:
    line = name if panel.key == "method" else f"{row.method}, {panel.key} = {name}"
    return f"{line}, draft length {row.draft_length}: {row.speedup:.2f}x{bracketed(row.interval)}"


def _cell(rows: Sequence[Row], length: object) -> str:
    """A speed-up, with its interval where there is one."""
    row = next((row for row in rows if row.draft_length == length), None)
    text = cell_text(row and replace(row, draft_length=None))
    interval = row.interval if row else None
    return f"{text}, {interval_text(interval)}" if interval else text


def _spread(lines: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """As many lines as can be told apart, from the first to the last."""
    if len(lines) <= MOST_LINES:
        return lines
    names = list(lines)
    picked = {names[round(index * (len(names) - 1) / (MOST_LINES - 1))] for index in range(MOST_LINES)}
    return {name: lines[name] for name in names if name in picked}


def _place(row: Row) -> tuple[bool, int]:
    return _order(row.draft_length)


def _order(length: object) -> tuple[bool, int]:
    """Numbers first, `auto` behind them."""
    return not isinstance(length, int), length if isinstance(length, int) else 0
