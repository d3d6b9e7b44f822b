"""The charts of a report, with altair; here those with a row a method, its figures written above its marks."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from specbench.render.report.curves import acceptance, memory
from specbench.render.report.inks import WIDE_PX, Ink, looks_of, tint, tinted
from specbench.render.report.marks import (
    Drawing,
    at_one,
    bars,
    data,
    finished,
    intervals,
    row_axis,
    titled,
    told_by,
)
from specbench.render.report.sections import PARTS
from specbench.render.tables import interval_text
from specbench.stats.report import Report
from specbench.stats.verdict import MARGIN

if TYPE_CHECKING:
    import altair as alt

MOST_DOTS = 300
GOLDEN = 0.618  # spreads the dots of a row evenly, without chance
RATIO_TICKS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 4, 5, 7, 10, 20)


def drawings(report: Report) -> list[Drawing]:
    """The charts for which there are figures."""
    found = [speedups(report), latencies(report, "ttft_ms", "Time to first token")]
    found += [latencies(report, "tpot_ms", "Time per output token"), acceptance(report)]
    found += [rounds(report), ceilings(report)]
    for run in report.memory:
        found += [memory(report, run, "rss_bytes"), memory(report, run, "cuda_bytes")]
    return [drawing for drawing in found if drawing]


def speedups(report: Report) -> Drawing | None:
    """Speed-up of every method and category with its interval, a row each, on a logarithmic axis."""
    rows = []
    looks = looks_of(report)
    for method in report.comparison.methods:
        if method.speedup_vs_control is None or method.method == method.reference:
            continue
        if method.lossless is None:
            continue  # another text: its speed says nothing about the others
        overall = (method.method, method.speedup_vs_control, method.speedup_interval, True)
        parts = [
            (part.category, part.speedup, part.interval, False)
            for part in report.comparison.categories
            if part.method == method.method
        ]
        for name, ratio, interval, whole in [overall, *parts]:
            low, high = interval or (ratio, ratio)
            known = f" ({interval_text(interval)})" if interval else ""
            rows.append(
                {"row": len(rows), "label": f"{name} · {ratio:.2f}x{known}", "weight": 600 if whole else 400,
                 "ratio": ratio, "low": low, "high": high, "whole": whole, "known": interval is not None,
                 "color": looks[method.method][0]}
            )  # fmt: skip
    if not rows:
        return None
    ends = [0.8, 1.25, *(row[end] for row in rows for end in ("low", "high"))]
    low, high = min(ends) / 1.06, max(ends) * 1.06

    def draw(ink: Ink, width: int) -> alt.LayerChart:
        import altair as alt

        ticks = [tick for tick in RATIO_TICKS if low <= tick <= high]
        ticks = ticks if width >= WIDE_PX or len(ticks) < 8 else ticks[::2] if 1 in ticks[::2] else ticks[1::2]
        title = titled("speed per token against the control (x, logarithmic; right of 1 is faster)", width)
        x = alt.X(
            "ratio:Q",
            scale=alt.Scale(type="log", domain=[low, high], nice=False),
            axis=alt.Axis(values=ticks, labelExpr="format(datum.value, '~g') + 'x'"),
            title=title,
        )
        fills = [{**row, "fill": row["tint"] if row["known"] else ink["paper"]} for row in tinted(rows, ink)]
        band = alt.Chart(data([{"from": 1 / MARGIN, "to": MARGIN}])).mark_rect(color=ink["band"])
        base = alt.Chart(data(fills)).encode(y=row_axis("row", rows))
        marks = [
            band.encode(x=alt.X("from:Q", title=title), x2="to:Q"),
            at_one(ink["muted"], "x", x),
            intervals(base, "x", alt.X("low:Q", title=title), strokeWidth=3).encode(color=tint(alt.Color)),
            base.mark_point(strokeWidth=2.5, opacity=1).encode(
                x=x,
                stroke=tint(alt.Stroke),
                fill=tint(alt.Fill, "fill"),
                size=alt.condition("datum.whole", alt.value(130), alt.value(60)),
                description="label:N",
            ),
        ]
        return finished(marks, ink, width, rows)

    return Drawing("speedup", "Speed per token against the control", told_by(rows), draw)


def latencies(report: Report, figure: str, name: str) -> Drawing | None:
    """A dot an answer, and the median, a row a method."""
    samples = {
        found.method: sorted(getattr(found, figure)) for found in report.samples if getattr(found, figure)
    }
    if not samples:
        return None
    rows, dots = [], []
    looks = looks_of(report)
    for method, values in samples.items():
        color = looks[method][0]
        middle, count = statistics.median(values), len(values)
        many = f"{count} answer{'s'[: count != 1]}"
        rows.append({"row": len(rows), "label": f"{method} · median {middle:.1f} ms, {many}",
                     "value": middle})  # fmt: skip
        step = max(1, count / MOST_DOTS)
        shown = [values[int(index * step)] for index in range(int(count / step))]
        dots += [
            {"at": len(rows) - 1 + (index * GOLDEN % 1 - 0.5) * 0.3, "value": value, "color": color,
             "told": f"{method}: {value:.1f} ms"}
            for index, value in enumerate(shown)
        ]  # fmt: skip

    def draw(ink: Ink, width: int) -> alt.LayerChart:
        import altair as alt

        x = alt.X("value:Q", scale=alt.Scale(zero=True, nice=True), title=f"{name.lower()} (ms)")
        bars = [{**row, "from": row["row"] - 0.26, "to": row["row"] + 0.26} for row in rows]
        marks = [
            alt.Chart(data(tinted(dots, ink)))
            .mark_circle(size=38, opacity=0.5)
            .encode(x=x, y=row_axis("at", rows), color=tint(alt.Color), description="told:N"),
            alt.Chart(data(bars))
            .mark_rule(strokeWidth=3, color=ink["ink"])
            .encode(x=x, y=row_axis("from", rows), y2="to:Q", description="label:N"),
        ]
        return finished(marks, ink, width, rows)

    return Drawing(figure.removesuffix("_ms"), name, told_by(rows), draw)


def rounds(report: Report) -> Drawing | None:
    """Stacked milliseconds of a mean round, a row a method."""
    rows, spans = [], []
    for found in report.round_times:
        label = f"{found.method} · {found.total_ms:.1f} ms a round, {found.tokens:.2f} tokens"
        known = {name: getattr(found, part) for part, name in PARTS.items() if getattr(found, part) is not None}
        at = 0.0
        for name, value in (known or {"not split": found.total_ms}).items():
            spans.append({"row": len(rows), "from": at, "to": at + value, "part": name,
                          "label": f"{found.method}, {name}: {value:.1f} ms"})  # fmt: skip
            at += value
        rows.append({"row": len(rows), "label": label})
    if not rows:
        return None
    parts = [name for name in (*PARTS.values(), "not split") if any(span["part"] == name for span in spans)]

    def draw(ink: Ink, width: int) -> alt.LayerChart:
        import altair as alt

        scale = alt.Scale(domain=parts, range=[ink[part.replace("not split", "unsplit")] for part in parts])
        legend = alt.Legend(orient="top", direction="horizontal", symbolType="square", labelLimit=0, columns=5)
        x = alt.X("from:Q", title=titled("mean round behind the first token (ms)", width))
        color = alt.Color("part:N", title=None, scale=scale, legend=legend)
        marks = [bars(spans, rows, x, color, stroke=ink["paper"], strokeWidth=1.5)]
        return finished(marks, ink, width, rows)

    return Drawing("rounds", "Where the time of a round goes", told_by(spans), draw)


def ceilings(report: Report) -> Drawing | None:
    """The share of the memory ceiling that each method reaches, a bar each, up to the line at 100 %."""
    known = [row for row in report.comparison.methods if row.share_of_ceiling is not None]
    if not known:
        return None
    looks = looks_of(report)
    rows = [
        {"row": index, "from": 0, "to": row.share_of_ceiling,
         "label": f"{row.method} · {row.share_of_ceiling:.0%}" + (" (fault)" if row.ceiling_fault else ""),
         "color": looks[row.method][0]}
        for index, row in enumerate(known)
    ]  # fmt: skip

    def draw(ink: Ink, width: int) -> alt.LayerChart:
        import altair as alt

        title = titled("share of the tokens per second that memory allows token by token (%)", width)
        x = alt.X("from:Q", axis=alt.Axis(format=".0%"), title=title)
        marks = [bars(tinted(rows, ink), rows, x, tint(alt.Color)), at_one(ink["ink"], "x", x)]
        return finished(marks, ink, width, rows)

    return Drawing("ceiling", "Share of the memory ceiling", told_by(rows), draw)
