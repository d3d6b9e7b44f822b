"""What all charts of a report share: a drawing, its rows, colours, legends and looks."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, TypeVar

from specbench.forecast.grid import Row
from specbench.render.report.inks import Ink, alt
from specbench.render.report.tabular import ends

Shape = TypeVar("Shape", "alt.LayerChart", "alt.ConcatChart")

ROW_PX = 42
PLOT_PX = 280
TITLE_LETTER_PX = 7
LABEL_LETTER_PX = 7.2


@dataclass(frozen=True)
class Drawing:
    """One chart: its name in files, its title, its figures in words, and how it is drawn.

    Args:
        draw: from colours and a width in pixels.
        figures: what is drawn, a record a mark, all with the same keys; the unit ends each name.
    """

    name: str
    title: str
    description: str
    draw: Callable[[Ink, int], alt.LayerChart | alt.ConcatChart]
    figures: tuple[Mapping[str, object], ...] = ()


def told_by(rows: Sequence[Mapping]) -> str:
    """The labels of all rows, as one text."""
    return "; ".join(str(row["label"]) for row in rows)


def row_figures(row: Row) -> dict[str, object]:
    """A row of a grid, as the data of its charts hold it."""
    known = {name: getattr(row, name) for name in ("method", "draft_length", "speedup")}
    return {**row.condition, **known, **ends(row.interval)}


def data(rows: Sequence[Mapping]) -> alt.InlineData:
    """Rows as altair takes them."""
    return alt.InlineData(values=[dict(row) for row in rows])


def row_axis(field: str, rows: Sequence[Mapping]) -> alt.Y:
    """A vertical position counted in rows, the first on top."""
    scale = alt.Scale(domain=[-0.75, rows[-1]["row"] + 0.5], reverse=True, nice=False, zero=False)
    return alt.Y(f"{field}:Q", scale=scale, axis=None)


def row_labels(rows: Sequence[Mapping], ink: Ink, width: int) -> alt.LayerChart:
    """What each row is, above its marks and inside the plot, so that long names fit a telephone.

    Rows may name a `short` label, which all of them show where a whole one has no room.
    """
    whole = all(len(row["label"]) * LABEL_LETTER_PX <= width for row in rows)
    texts = [
        {"row": row["row"] - 0.42, "weight": row.get("weight", 600),
         "label": row["label"] if whole else row.get("short", row["label"])}
        for row in rows
    ]  # fmt: skip
    chart = alt.Chart(data(texts)).encode(x=alt.value(2), y=row_axis("row", rows), text="label:N")
    look: dict[str, Any] = {"align": "left", "baseline": "middle", "fontSize": 12.5,
                            "fontWeight": alt.ExprRef("datum.weight")}  # fmt: skip
    halo = chart.mark_text(stroke=ink["paper"], strokeWidth=5, strokeJoin="round", **look)
    return layered(halo, chart.mark_text(color=ink["ink"], **look))


def bars(found: Sequence[Mapping], rows: Sequence[Mapping], x: alt.X, color: object, **look: Any) -> alt.Chart:
    """A bar for each of `found`, in the row that its `row` counts, from its `from` to its `to`."""
    known = [{**bar, "top": bar["row"] - 0.2, "foot": bar["row"] + 0.22} for bar in found]
    return (
        alt.Chart(data(known))
        .mark_rect(**look)
        .encode(x=x, x2="to:Q", y=row_axis("top", rows), y2="foot:Q", color=color, description="label:N")
    )


def intervals(base: alt.Chart, along: str, axis: alt.X | alt.Y, **look: Any) -> alt.Chart:
    """A line from the field `low` to `high` of each row, along `x` or `y`."""
    return base.mark_rule(**look).encode(**{along: axis, f"{along}2": "high:Q"})


def at_one(ink: str, along: str, axis: alt.X | alt.Y) -> alt.Chart:
    """The dashed line where a ratio, in the field of this axis, is 1."""
    field = str(axis.shorthand).partition(":")[0]
    return alt.Chart(data([{field: 1}])).mark_rule(color=ink, strokeDash=[3, 3]).encode(**{along: axis})


def titled(text: str, width: int) -> list[str]:
    """An axis title in as many lines as it needs at this width."""
    return textwrap.wrap(text, width // TITLE_LETTER_PX)


def finished(marks: Sequence[alt.Chart], ink: Ink, width: int, rows: Sequence[Mapping] = ()) -> alt.LayerChart:
    """Marks above each other, in the size and look that all charts share.

    Args:
        rows: of charts that have a row for each thing; their labels stand above all marks.
    """
    height = round(ROW_PX * (rows[-1]["row"] + 1.25)) if rows else PLOT_PX
    autosize = alt.AutoSizeParams(type="fit-x", contains="padding")
    layers = [*marks, row_labels(rows, ink, width)] if rows else marks
    return looked(layered(*layers).properties(width=width, height=height, autosize=autosize), ink, width)


def layered(*marks: alt.Chart | alt.LayerChart) -> alt.LayerChart:
    """Marks above each other; `alt.layer` may also give a chart of facets, which none of ours has."""
    return alt.LayerChart(layer=list(marks))


def side_by_side(
    charts: Mapping[str, alt.LayerChart], ink: Ink, width: int, columns: int = 1, aside: int = 70
) -> alt.ConcatChart:
    """Charts under and beside each other, each below its heading, in the look that all share.

    Args:
        aside: pixels of a panel that its axis takes.
    """
    drawn = []
    for heading, chart in charts.items():
        sized = chart.properties(width=ceil(width / columns) - aside)
        drawn.append(sized.properties(title=heading) if heading else sized)
    return looked(alt.concat(*drawn, columns=columns, spacing=24), ink, width)


def looked(chart: Shape, ink: Ink, width: int) -> Shape:
    """A chart, or several beside each other, in the look that all share."""
    import altair as alt

    axis: dict[str, Any] = {"labelColor": ink["muted"], "titleColor": ink["muted"], "gridColor": ink["grid"],
            "domainColor": ink["muted"], "tickColor": ink["muted"], "labelFontSize": 12, "titleFontSize": 12,
            "titleFontWeight": "normal", "titlePadding": 10, "domain": False}  # fmt: skip
    return chart.configure(  # at once, for altair copies the chart at every call
        background="transparent",
        padding=4,
        view=alt.ViewConfig(stroke=None),
        axis=alt.AxisConfig(**axis),
        axisX=alt.AxisConfig(tickCount=max(3, width // 90)),
        legend=alt.LegendConfig(labelColor=ink["ink"], labelFontSize=12, symbolStrokeWidth=2),
        title=alt.TitleConfig(color=ink["ink"], fontSize=12.5, anchor="start"),
    )
