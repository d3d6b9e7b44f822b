"""The charts of a report, with altair; here those of time by part and of what memory allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from specbench.render.report.contexts import FIGURES, by_category, by_context
from specbench.render.report.curves import acceptance, memory
from specbench.render.report.inks import Ink, alt, legend_of, looks_of, tint, tinted
from specbench.render.report.latencies import latencies
from specbench.render.report.marks import Drawing, at_one, bars, data, finished, row_axis, titled, told_by
from specbench.render.report.pictures import demand_methods
from specbench.render.report.speedups import categories, speedups
from specbench.stats.headline import ranked
from specbench.stats.report import Report
from specbench.stats.row_names import base

SHADES = {"draft": 1.0, "link": 0.25, "verify": 0.55, "other": 0.15, "not split": 0.55}  # opacity of each part


def drawings(report: Report) -> list[Drawing]:
    """The charts for which there are figures."""
    found = [speedups(report), categories(report), latencies(report, "ttft_ms", "Time to first token")]
    found += [latencies(report, "tpot_ms", "Time per output token"), acceptance(report), by_category(report)]
    found += [*(by_context(report, figure) for figure in FIGURES), times(report), ceilings(report)]
    for run in report.memory:
        found += [memory(report, run, "rss_bytes"), memory(report, run, "cuda_bytes")]
    return [drawing for drawing in found if drawing]


def chosen(report: Report, methods: Sequence[str]) -> Report:
    """A report of these methods alone, or of all where none is named; one of several runs has all its rows.

    Raises:
        SpecbenchError: there is no such method in it.
    """
    if not methods:
        return report
    known = [row.method for row in report.comparison.methods]
    demand_methods(methods, dict.fromkeys([*known, *map(base, known)]), "report")
    kept = {name for name in known if name in methods or base(name) in methods}
    comparison = replace(
        report.comparison,
        methods=tuple(row for row in report.comparison.methods if row.method in kept),
        categories=tuple(row for row in report.comparison.categories if row.method in kept),
        stretches=tuple(each for each in report.comparison.stretches if each.method in kept),
        category_answers=tuple(each for each in report.comparison.category_answers if each.method in kept),
    )
    memory = {run: tuple(point for point in points if point.method in kept)
              for run, points in report.memory.items()}  # fmt: skip
    return replace(
        report,
        comparison=comparison,
        samples=tuple(found for found in report.samples if found.method in kept),
        round_times=tuple(found for found in report.round_times if found.method in kept),
        memory={run: points for run, points in memory.items() if points},
    )


def times(report: Report) -> Drawing | None:
    """Milliseconds of a token by part, stacked, a row a method: its colour, and a shade a part."""
    known = {found.method: found for found in report.round_times}
    rows: list[dict] = []
    spans: list[dict] = []
    figures: list[dict] = []
    looks = looks_of(report)
    for method in (row.method for row in ranked(report.comparison) if row.method in known):
        found = known[method]
        told = ", ".join(f"{part} {value:.1f}" for part, value in found.parts_per_token.items())
        short = f"{method} · {found.ms_per_token:.1f} ms a token"
        at, color = 0.0, looks[method][0]
        for part, value in (found.parts_per_token or {"not split": found.ms_per_token}).items():
            spans.append({"row": len(rows), "from": at, "to": at + value, "part": part, "color": color,
                          "label": f"{method}, {part}: {value:.2f} ms a token"})  # fmt: skip
            figures.append({"method": method, "part": part, "ms_per_token": value})
            at += value
        rows.append({"row": len(rows), "label": f"{short}: {told}" if told else short, "short": short,
                     "total": found.ms_per_token})  # fmt: skip
    if not rows:
        return None
    parts = [name for name in SHADES if any(span["part"] == name for span in spans)]

    def draw(ink: Ink, width: int) -> alt.LayerChart:
        legend = legend_of(width, 160)
        legend.symbolType, legend.symbolFillColor, legend.symbolStrokeColor = "square", ink["ink"], ink["ink"]
        legend.direction, legend.columns = "horizontal", len(parts)
        shade = alt.Scale(type="ordinal", domain=parts, range=[SHADES[part] for part in parts])
        x = alt.X("from:Q", title=titled("time of a token after the first (ms)", width))
        shown = bars(tinted(spans, ink), rows, x, tint(alt.Color), strokeWidth=1)
        ends = [{**row, "top": row["row"] - 0.26, "foot": row["row"] + 0.28} for row in rows]
        marks = [
            shown.encode(
                stroke=tint(alt.Stroke),
                opacity=alt.Opacity("part:N", scale=shade, legend=legend, title=None),
            ),
            alt.Chart(data(ends))
            .mark_rule(strokeWidth=2, color=ink["ink"])
            .encode(x=alt.X("total:Q"), y=row_axis("top", rows), y2="foot:Q", description="label:N"),
        ]
        return finished(marks, ink, width, rows)

    return Drawing("time", "Time per token by part", told_by(rows), draw, tuple(figures))


def ceilings(report: Report) -> Drawing | None:
    """The share of the memory ceiling that each method reaches, a bar each, up to the line at 100 %."""
    known = [row for row in ranked(report.comparison) if row.share_of_ceiling is not None]
    if not known:
        return None
    looks = looks_of(report)
    rows = [
        {"row": index, "from": 0, "to": row.share_of_ceiling,
         "label": f"{row.method} · {row.share_of_ceiling:.0%}" + (" (fault)" if row.ceiling_fault else ""),
         "color": looks[row.method][0]}
        for index, row in enumerate(known)
    ]  # fmt: skip
    figures = tuple({"method": row.method, "share_of_ceiling": row.share_of_ceiling} for row in known)

    def draw(ink: Ink, width: int) -> alt.LayerChart:
        title = titled("share of the tokens per second that memory allows token by token (%)", width)
        x = alt.X("from:Q", axis=alt.Axis(format=".0%"), title=title)
        marks = [bars(tinted(rows, ink), rows, x, tint(alt.Color)), at_one(ink["ink"], "x", x)]
        return finished(marks, ink, width, rows)

    return Drawing("ceiling", "Share of the memory ceiling", told_by(rows), draw, figures)
