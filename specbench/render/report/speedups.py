"""The chart that answers the question: speed-ups with their intervals around the line at 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

from specbench.render.cells import bracketed
from specbench.render.report.inks import Ink, alt, looks_of, tint, tinted
from specbench.render.report.marks import (
    Drawing,
    at_one,
    data,
    finished,
    intervals,
    row_axis,
    titled,
    told_by,
)
from specbench.render.report.tabular import ENDS
from specbench.stats.headline import compared
from specbench.stats.report import Report
from specbench.stats.verdict import FASTER, FEWEST_PROMPTS, MARGIN, SLOWER

APART = "Text may differ from the cloud's"
TICKS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 4, 5, 7, 10, 20)
TICK_PX = 46
IN_FILES = {"low": ENDS[0], "high": ENDS[1]}
HEADING_ROWS = 0.75  # of a row's height that a heading takes
SIGNS = {FASTER: "▲", SLOWER: "▼"}  # beside the words, for readers who see no colours


def speedups(report: Report) -> Drawing | None:
    """A row a method, sorted; methods whose text may differ stand apart, under a heading of their own."""
    looks = looks_of(report)
    rows: list[dict] = []
    headings: list[dict] = []
    at = 0.0
    for method in compared(report.comparison):
        if rows and rows[-1]["lossless"] and not method.lossless:
            headings.append({"row": at, "label": APART, "short": APART, "weight": 400})
            at += HEADING_ROWS
        figures = {
            "method": method.method, "lossless": method.lossless, "speedup": method.speedup_vs_control,
            "interval": method.speedup_interval, "verdict": method.verdict, "prompts": method.paired_prompts,
        }  # fmt: skip
        rows.append(_row(figures, method.method, bool(method.lossless), at, looks[method.method]))
        at += 1
    title = "Speed-up: speed per token against the cloud alone"
    return _drawing("speedup", title, rows, headings) if rows else None


def categories(report: Report) -> Drawing | None:
    """A row for each method and category, in the order of the methods; none where there is one category."""
    looks = looks_of(report)
    rows: list[dict] = []
    for method in compared(report.comparison):
        for part in report.comparison.categories:
            if part.method == method.method:
                figures = {
                    "method": part.method, "category": part.category, "speedup": part.speedup,
                    "interval": part.interval, "verdict": part.verdict, "prompts": part.prompts,
                }  # fmt: skip
                name = f"{part.method}, {part.category}"
                rows.append(_row(figures, name, bool(method.lossless), float(len(rows)), looks[method.method]))
    if len({row["category"] for row in rows}) < 2:
        return None
    return _drawing("speedup-categories", "Speed-up by category of prompts", rows, [])


def _row(figures: dict, name: str, same_text: bool, at: float, look: tuple[str, str]) -> dict:
    """A row's figures, label and look; faster and slower are said of the same text alone."""
    interval = figures.pop("interval")
    low, high = interval or (None, None)
    short = f"{name} · {figures['speedup']:.2f}x{bracketed(interval)}"
    few = "too few prompts" if figures["prompts"] < FEWEST_PROMPTS else "no verdict"
    sign = SIGNS.get(figures["verdict"], "") if same_text else ""
    short = f"{sign} {short}".strip()
    label = f"{short}, {figures['verdict'] or few}" if same_text else short
    color, shape = look
    return {**figures, "low": low, "high": high, "short": short, "label": label, "row": at, "color": color,
            "shape": shape}  # fmt: skip


def _drawing(name: str, title: str, rows: Sequence[Mapping], headings: Sequence[Mapping]) -> Drawing:
    ends = [0.8, 1.25, *(row[end] for row in rows for end in ("low", "speedup", "high") if row[end])]
    low, high = min(ends) / 1.06, max(ends) * 1.06
    every = sorted([*rows, *headings], key=lambda row: row["row"])

    def draw(ink: Ink, width: int) -> alt.LayerChart:
        words = titled("speed per token against the cloud alone (1x), logarithmic", width)
        shown = ticks(low, high, width)
        axis = alt.Axis(
            values=shown, tickCount=len(shown), labelOverlap=False,
            labelExpr="format(datum.value, '~g') + 'x'",
        )  # fmt: skip
        scale = alt.Scale(type="log", domain=[low, high], nice=False)
        x, start, band_start = (
            alt.X(f"{field}:Q", scale=scale, axis=axis, title=words) for field in ("speedup", "low", "from")
        )
        fills = [
            {**row, "fill": row["tint"] if row["verdict"] in SIGNS else ink["paper"]}
            for row in tinted(rows, ink)
        ]
        band = alt.Chart(data([{"from": 1 / MARGIN, "to": MARGIN}])).mark_rect(color=ink["band"])
        base = alt.Chart(data(fills)).encode(y=row_axis("row", every))
        known = base.transform_filter("isValid(datum.low)")
        marks = [
            band.encode(x=band_start, x2="to:Q"),
            at_one(ink["ink"], "x", x),
            intervals(known, "x", start, strokeWidth=4, strokeCap="round").encode(
                color=tint(alt.Color), description="label:N"
            ),
            base.mark_point(strokeWidth=2.5, opacity=1, size=130).encode(
                x=x,
                stroke=tint(alt.Stroke),
                fill=tint(alt.Fill, "fill"),
                shape=alt.Shape("shape:N", scale=None),
                description="label:N",
            ),
        ]
        return finished(marks, ink, width, every)

    hidden = ("row", "color", "shape", "label", "short")
    figures = tuple(
        {IN_FILES.get(key, key): value for key, value in row.items() if key not in hidden} for row in rows
    )
    return Drawing(name, title, told_by(rows), draw, figures)


def ticks(low: float, high: float, width: int) -> list[float]:
    """1, and from there outwards as many ticks as have room."""
    kept = [1.0]
    for tick in sorted(TICKS, key=lambda tick: abs(log(tick))):
        apart = min(abs(log(tick / other)) for other in kept) / log(high / low) * width
        if low <= tick <= high and apart >= TICK_PX:
            kept.append(tick)
    return sorted(kept)
