"""The colours, shapes and legends of charts: CSS variables on the page, light and dark; in files as on paper.

A method has one colour, whatever page or chart it is on. Colours keep apart in the common kinds of colour
blindness (after Okabe and Ito 2008) and stand out from their background by 3:1; shapes and labels say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, TypeVar
from zlib import crc32

from specbench.stats.comparison import MODEL_GENERATE
from specbench.stats.report import Report
from specbench.stats.row_names import base

if TYPE_CHECKING:
    import altair as alt

Channel = TypeVar("Channel")
Ink = Mapping[str, str]


class _Altair:
    """altair, imported where its first name is used: tables and files of data do without it."""

    def __getattr__(self, name: str) -> Any:
        import altair

        return getattr(altair, name)


if not TYPE_CHECKING:
    alt = _Altair()
COLORS = {
    "ink": ("#1b2330", "#e8ecf2"),
    "muted": ("#566173", "#a3adbc"),
    "grid": ("#e3e7ee", "#2c3544"),
    "band": ("#eef1f6", "#1d2532"),
    "paper": ("#ffffff", "#131922"),
    "accent": ("#0b57a4", "#7cbcf5"),
    "good": ("#00694a", "#4fd3a5"),
    "bad": ("#a5351c", "#ff9d7a"),
    "faster": ("#00758f", "#3cbcd6"),
    "slower": ("#b0492a", "#f0936f"),
    "control": ("#6b7584", "#9aa5b5"),
    "series0": ("#0067b1", "#5db0f2"),
    "series1": ("#b04300", "#ff9a57"),
    "series2": ("#00714f", "#3ecf9f"),
    "series3": ("#a8478c", "#e693cd"),
    "series4": ("#8a6a00", "#e2c04a"),
    "series5": ("#2488b8", "#8fd3f4"),
    "series6": ("#6a51c4", "#b3a1ff"),
    "series7": ("#5c7d1a", "#b5d266"),
    "step0": ("#8b93a1", "#6d7a8d"),
    "step1": ("#757e8e", "#8290a3"),
    "step2": ("#5f6979", "#99a6b7"),
    "step3": ("#4a5465", "#b1bcca"),
    "step4": ("#343f50", "#cbd4df"),
    "step5": ("#1b2330", "#e8ecf2"),
}
"""Each on light paper and on dark."""
LIGHT, DARK = ({name: both[which] for name, both in COLORS.items()} for which in (0, 1))
ON_PAGE = {name: f"var(--{name})" for name in LIGHT}
SERIES = sum(name.startswith("series") for name in LIGHT)
STEPS = sum(name.startswith("step") for name in LIGHT)
OWN = ("speculative", "prompt_lookup", "speculative_pipelined", "speculative_colocated", "suffix", "hybrid",
       "edge_baseline", "hf_assisted", "early_exit", "speculative_tree", "token_recycling", "speculative_ahead",
       "speculative_adaptive", "speculative_synchronous", "hf_assisted_dynamic")  # fmt: skip
WIDE_PX = 560  # of a chart; below it, legends stand in one column
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "triangle-right", "triangle-left")


def of_methods(methods: Sequence[str], control: str | None) -> dict[str, tuple[str, str]]:
    """A colour's name and a shape for each method; the cloud alone, of each run, is grey.

    The colour follows from the method's name alone. Where a method has several rows, the others take free ones.
    """
    found: dict[str, tuple[str, str]] = {}
    known: set[str] = set()
    for name in sorted(methods, key=lambda name: "@" in name):
        method = base(name)
        place = OWN.index(method) if method in OWN else crc32(method.encode())
        if method == MODEL_GENERATE or (control and method == base(control)):
            looks = [("control", shape) for shape in ("cross", *SHAPES)]
        else:
            looks = [
                (f"series{(place + color) % SERIES}", SHAPES[(place + shape) % len(SHAPES)])
                for color, shape in product(range(SERIES), range(len(SHAPES)))
            ]
        taken = set(found.values())
        free = [look for look in looks if look not in taken]
        if method in known:
            colors = {color for color, _ in taken}
            free = [look for look in free if look[0] not in colors] or free
        known.add(method)
        found[name] = (free or looks)[0]
    return {name: found[name] for name in methods}


def of_steps(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """A grey and a shape for each value of a quantity, the darker the further along."""
    last = max(1, len(names) - 1)
    return {
        name: (f"step{round(index / last * (STEPS - 1))}", SHAPES[index % len(SHAPES)])
        for index, name in enumerate(names)
    }


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
    wide = width >= WIDE_PX
    return alt.Legend(
        orient="top",
        direction="horizontal" if wide else "vertical",
        columns=3 if wide else 1,
        symbolSize=symbol_size,
        symbolOpacity=opacity,
        labelLimit=0,
        columnPadding=18,
    )
