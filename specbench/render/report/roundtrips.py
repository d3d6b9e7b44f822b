"""Speed-up over the round trip, with the round trip at which each method breaks even."""

from __future__ import annotations

from collections.abc import Sequence

from specbench.forecast.breakeven import RTT, BreakEven, break_evens
from specbench.forecast.grid import Row, best
from specbench.render.cells import bracketed
from specbench.render.forecasts import cell_text, told_break_even, where
from specbench.render.report.heat import looks_in
from specbench.render.report.inks import WIDE_PX, Ink, alt, by_name
from specbench.render.report.marks import Drawing, at_one, data, intervals, layered, row_figures, side_by_side
from specbench.results.records import CONTROL

CURVE_PX = 240
SPEEDUP = "speed-up (x)"


def round_trip_drawings(rows: Sequence[Row]) -> list[Drawing]:
    """A line a method, a panel for each other condition; none where there is one round trip."""
    rows = [row for row in rows if row.method == CONTROL or row.competes]
    evens, (methods, looks) = break_evens(rows), looks_in(rows)
    if not evens:
        return []
    points: dict[str, list[dict]] = {}
    figures = []
    for by_method in best(rows):
        for row in by_method.values():
            if row.competes:
                points.setdefault(_others(row.condition), []).append(_point(row))
                figures.append(row_figures(row))
    told = "; ".join(f"{even.method} {told_break_even(even)}" for even in evens)

    def draw(ink: Ink, width: int) -> alt.ConcatChart:
        columns = 1 if len(points) == 1 or width < WIDE_PX else 2
        color, shape = by_name("method", methods, looks, ink, width)
        highest = 1.08 * max(point["high"] or point["speedup"] for found in points.values() for point in found)
        y = alt.Y("speedup:Q", title=SPEEDUP, scale=alt.Scale(domain=[0, max(1.15, highest)]))
        charts = {}
        for heading, found in points.items():
            x = alt.X("rtt_ms:Q", title="round trip (ms)", axis=alt.Axis(grid=False))
            base = alt.Chart(data(found)).encode(x=x, color=color)
            known = base.transform_filter("isValid(datum.low)")
            fill = alt.condition("datum.open", alt.value(ink["paper"]), color)
            charts[heading] = layered(
                at_one(ink["ink"], "y", y),
                intervals(known, "y", alt.Y("low:Q", title=SPEEDUP), strokeWidth=2, opacity=0.7),
                base.mark_line(strokeWidth=2.5).encode(y=y),
                base.mark_point(size=60, opacity=1, strokeWidth=2).encode(
                    y=y, shape=shape, fill=fill, description="label:N"
                ),
                *_even_marks([even for even in evens if _others(even.condition) == heading], color, x, ink),
            ).properties(height=CURVE_PX)
        return side_by_side(charts, ink, width, columns)

    title = "Speed-up over the round trip"
    if any(even.rtt_ms is not None and not even.beyond for even in evens):
        title += "; a line down from 1 marks where a method breaks even"
    return [Drawing("break-even", title, told, draw, tuple(figures))]


def _others(condition: dict[str, object]) -> str:
    return where({key: value for key, value in condition.items() if key != RTT})


def _point(row: Row) -> dict:
    low, high = row.interval or (None, None)
    return {
        "method": row.method, "rtt_ms": row.condition[RTT], "speedup": row.speedup, "low": low,
        "high": high, "open": row.is_open,
        "label": f"{row.method} at {row.condition[RTT]} ms: {cell_text(row)}{bracketed(row.interval)}",
    }  # fmt: skip


def _even_marks(evens: Sequence[BreakEven], color: alt.Color, x: alt.X, ink: Ink) -> list[alt.LayerChart]:
    """A dashed line from 1 down to the axis at each known break-even, and its round trip beside it."""
    known = [
        {"method": even.method, "rtt_ms": even.rtt_ms, "from": 1, "to": 0, "at": 0.06 + 0.09 * index,
         "text": f"{even.rtt_ms:.0f} ms", "label": f"{even.method} breaks even at {even.rtt_ms:.1f} ms"}
        for index, even in enumerate(even for even in evens if even.rtt_ms is not None and not even.beyond)
    ]  # fmt: skip
    if not known:
        return []
    base = alt.Chart(data(known)).encode(x=x, color=color)
    return [
        base.mark_rule(strokeDash=[4, 3], strokeWidth=1.5).encode(
            y=alt.Y("from:Q", title=SPEEDUP), y2="to:Q", description="label:N"
        ),
        base.mark_text(align="left", dx=4, fontSize=12).encode(
            y=alt.Y("at:Q", title=SPEEDUP), text="text:N", color=alt.value(ink["ink"])
        ),
    ]
