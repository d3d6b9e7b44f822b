"""The colours, shapes and legends of charts: CSS variables on the page, light and dark; in files as on paper.

Methods and parts keep apart in every common kind of colour blindness (after Okabe and Ito 2008, made darker or
lighter until each stands out from its background by 3:1); shapes and labels say the same without colour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from specbench.stats.report import Report

if TYPE_CHECKING:
    import altair as alt

    Channel = TypeVar("Channel")

Ink = Mapping[str, str]
LIGHT = {
    "ink": "#1b2330",
    "muted": "#566173",
    "grid": "#e3e7ee",
    "band": "#e9edf4",
    "paper": "#ffffff",
    "control": "#6b7584",
    "series0": "#0067b1",
    "series1": "#b04300",
    "series2": "#00714f",
    "series3": "#a8478c",
    "series4": "#8a6a00",
    "series5": "#2488b8",
    "draft": "#b04300",
    "link": "#a8478c",
    "verify": "#0067b1",
    "other": "#8a6a00",
    "unsplit": "#6b7584",
}
DARK = {
    "ink": "#e8ecf2",
    "muted": "#a3adbc",
    "grid": "#2c3544",
    "band": "#232c3a",
    "paper": "#131922",
    "control": "#9aa5b5",
    "series0": "#5db0f2",
    "series1": "#ff9a57",
    "series2": "#3ecf9f",
    "series3": "#e693cd",
    "series4": "#e2c04a",
    "series5": "#8fd3f4",
    "draft": "#ff9a57",
    "link": "#e693cd",
    "verify": "#5db0f2",
    "other": "#e2c04a",
    "unsplit": "#9aa5b5",
}
ON_PAGE = {name: f"var(--{name})" for name in LIGHT}
SERIES = sum(name.startswith("series") for name in LIGHT)
WIDE_PX = 560  # of a chart; below it, legends stand in one column
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "triangle-right")


def of_methods(methods: Sequence[str], control: str | None) -> dict[str, tuple[str, str]]:
    """A colour's name and a shape for each method; the control, of each run, is grey."""
    base = control.partition("@")[0] if control else None
    controls = [name for name in methods if name.partition("@")[0] == base]
    looks = {control: ("control", "cross")} if control else {}
    shapes = ("cross", *SHAPES)
    looks |= {name: ("control", shapes[index % len(shapes)]) for index, name in enumerate(controls)}
    for index, name in enumerate(name for name in methods if name not in controls):
        looks[name] = f"series{index % SERIES}", SHAPES[(index + index // SERIES) % len(SHAPES)]
    return looks


def looks_of(report: Report) -> dict[str, tuple[str, str]]:
    """A colour's name and a shape for each method, the same in all charts."""
    return of_methods([row.method for row in report.comparison.methods], report.comparison.control)


def tint(channel: Callable[..., Channel], field: str = "tint") -> Channel:
    """A channel whose field is a colour."""
    return channel(f"{field}:N", scale=None)


def tinted(rows: Sequence[Mapping], ink: Ink) -> list[dict]:
    """Rows with the colour that they name."""
    return [{**row, "tint": ink[row["color"]]} for row in rows]


def by_name(
    field: str, names: Sequence[str], looks: Mapping[str, tuple[str, str]], ink: Ink, width: int,
    title: str | None = None,
) -> tuple[alt.Color, alt.Shape]:  # fmt: skip
    """A colour and a shape for each of these names, and their legend."""
    import altair as alt

    legend = legend_of(width)
    if title:
        legend.titleColor = ink["ink"]
    color = alt.Scale(domain=list(names), range=[ink[looks[name][0]] for name in names])
    shape = alt.Scale(domain=list(names), range=[looks[name][1] for name in names])
    return (
        alt.Color(f"{field}:N", title=title, scale=color, legend=legend),
        alt.Shape(f"{field}:N", title=title, scale=shape, legend=legend),
    )


def legend_of(width: int, symbol_size: int = 110, opacity: float = 1) -> alt.Legend:
    """A legend above the chart; on a telephone, a line for each entry."""
    import altair as alt

    wide = width >= WIDE_PX
    place = {"orient": "top", "direction": "horizontal" if wide else "vertical", "columns": 3 if wide else 1}
    symbol = {"symbolSize": symbol_size, "symbolOpacity": opacity}
    return alt.Legend(**place, **symbol, labelLimit=0, columnPadding=18)
