"""Charts of how figures change with the length of the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specbench.render.report.inks import Ink, by_name, looks_of
from specbench.render.report.marks import Drawing, data, finished, titled, told_by
from specbench.stats.report import Report
from specbench.stats.stretches import CONTEXT

if TYPE_CHECKING:
    import altair as alt

FIGURES = {
    "tpot_ms": ("context-tpot", "Time per token by length of the prompt", "TPOT (ms)", ".1f"),
    "acceptance_rate": ("context-acceptance", "Acceptance by length of the prompt", "share accepted", ".2f"),
}


def by_context(report: Report, figure: str) -> Drawing | None:
    """A line for each method over the tokens of the prompt, which double from point to point.

    Args:
        figure: a key of `FIGURES`.
    """
    name, title, axis, digits = FIGURES[figure]
    points = [
        {"method": each.method, "tokens": each.last, figure: getattr(each, figure),
         "label": f"{each.method} up to {each.last} tokens: {getattr(each, figure):{digits}}"}
        for each in report.comparison.stretches
        if each.of == CONTEXT and getattr(each, figure) is not None
    ]  # fmt: skip
    if not points:
        return None
    methods = list(dict.fromkeys(point["method"] for point in points))

    def draw(ink: Ink, width: int) -> alt.LayerChart:
        import altair as alt

        color, shape = by_name("method", methods, looks_of(report), ink, width)
        lengths = sorted({point["tokens"] for point in points})
        base = alt.Chart(data(points)).encode(
            x=alt.X(
                "tokens:Q",
                scale=alt.Scale(type="log", base=2, nice=False),
                axis=alt.Axis(values=lengths, format="d", grid=False),
                title=titled("tokens of the prompt, at most", width),
            ),
            y=alt.Y(f"{figure}:Q", scale=alt.Scale(zero=True), title=axis),
            color=color,
        )
        marks = [
            base.mark_line(strokeWidth=2.5),
            base.mark_point(filled=True, size=70, opacity=1).encode(shape=shape, description="label:N"),
        ]
        return finished(marks, ink, width)

    figures = tuple({key: point[key] for key in ("method", "tokens", figure)} for point in points)
    return Drawing(name, title, told_by(points), draw, figures)
