"""Latency charts: every answer of a method, its middle half and its median."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from specbench.render.report.inks import Ink, alt, looks_of, tint, tinted
from specbench.render.report.marks import Drawing, bars, data, finished, row_axis, told_by
from specbench.stats.headline import ranked
from specbench.stats.report import Report

MOST_DOTS = 300
GOLDEN = 0.618  # spreads the dots of a row evenly, without chance


def latencies(report: Report, figure: str, name: str) -> Drawing | None:
    """A dot an answer, a bar from the first quartile to the third, and the median, a row a method."""
    known = {found.method: sorted(getattr(found, figure)) for found in report.samples}
    order = [row.method for row in ranked(report.comparison) if known.get(row.method)]
    if not order:
        return None
    rows: list[dict] = []
    dots: list[dict] = []
    figures: list[dict] = []
    looks = looks_of(report)
    for method in order:
        values, color = known[method], looks[method][0]
        middle, count = statistics.median(values), len(values)
        first, _, third = statistics.quantiles(values, method="inclusive") if count > 1 else values * 3
        many = f"{count} answer{'s'[: count != 1]}"
        rows.append(
            {"row": len(rows), "color": color, "label": f"{method} · median {middle:.1f} ms, {many}",
             "short": f"{method} · {middle:.1f} ms", "value": middle, "from": first, "to": third}
        )  # fmt: skip
        figures += [{"method": method, figure: value} for value in values]
        dots += [
            {"at": len(rows) - 1 + (index * GOLDEN % 1 - 0.5) * 0.3, "value": value, "color": color,
             "told": f"{method}: {value:.1f} ms"}
            for index, value in enumerate(_spread(values))
        ]  # fmt: skip

    def draw(ink: Ink, width: int) -> alt.LayerChart:
        title = f"{name.lower()} (ms)"
        x = alt.X("value:Q", scale=alt.Scale(zero=True, nice=True), title=title)
        spans = alt.X("from:Q", scale=alt.Scale(zero=True, nice=True), title=title)
        middles = [{**row, "low": row["row"] - 0.24, "high": row["row"] + 0.26} for row in rows]
        halves = [{**row, "label": f"{row['label']}; middle half {row['from']:.1f} to {row['to']:.1f} ms"}
                  for row in tinted(rows, ink)]  # fmt: skip
        marks = [
            bars(halves, rows, spans, tint(alt.Color), opacity=0.25),
            alt.Chart(data(tinted(dots, ink)))
            .mark_circle(size=34, opacity=0.6)
            .encode(x=x, y=row_axis("at", rows), color=tint(alt.Color), description="told:N"),
            alt.Chart(data(middles))
            .mark_rule(strokeWidth=3, color=ink["ink"])
            .encode(x=x, y=row_axis("low", rows), y2="high:Q", description="label:N"),
        ]
        return finished(marks, ink, width, rows)

    return Drawing(figure.removesuffix("_ms"), name, told_by(rows), draw, tuple(figures))


def _spread(values: Sequence[float]) -> list[float]:
    """As many of the sorted values as can be told apart, evenly."""
    step = max(1, len(values) / MOST_DOTS)
    return [values[int(index * step)] for index in range(int(len(values) / step))]
