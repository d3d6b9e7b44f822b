"""Charts of how figures change with the length of the prompt, and with its category."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specbench.render.cells import bracketed
from specbench.render.report.inks import Ink, by_name, looks_of, tint, tinted
from specbench.render.report.marks import Drawing, data, finished, intervals, row_axis, titled, told_by
from specbench.render.report.tabular import ends
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


def by_category(report: Report) -> Drawing | None:
    """Acceptance length with its interval, a row for each method and category."""
    looks, none = looks_of(report), (None, None)
    known = [each for each in report.comparison.category_answers if each.acceptance_length is not None]
    rows = [
        {"row": float(at), "length": each.acceptance_length,
         **dict(zip(("low", "high"), each.length_interval or none, strict=True)),
         **dict(zip(("color", "shape"), looks[each.method], strict=True)),
         "label": f"{each.method}, {each.category} · {each.acceptance_length:.2f}"
                  f"{bracketed(each.length_interval)}"}
        for at, each in enumerate(known)
    ]  # fmt: skip
    if not rows:
        return None

    def draw(ink: Ink, width: int) -> alt.LayerChart:
        import altair as alt

        scale, words = alt.Scale(zero=False, nice=True), titled("tokens that a verification commits", width)
        x, start = (alt.X(f"{field}:Q", scale=scale, title=words) for field in ("length", "low"))
        base = alt.Chart(data(tinted(rows, ink))).encode(y=row_axis("row", rows))
        shape = alt.Shape("shape:N", scale=None)
        marks = [
            intervals(
                base.transform_filter("isValid(datum.low)"), "x", start, strokeWidth=4, strokeCap="round"
            ).encode(color=tint(alt.Color), description="label:N"),
            base.mark_point(filled=True, size=130, opacity=1).encode(
                x=x, color=tint(alt.Color), shape=shape, description="label:N"
            ),
        ]
        return finished(marks, ink, width, rows)

    figures = tuple(
        {"method": each.method, "category": each.category, "prompts": each.prompts,
         "acceptance_rate": each.acceptance_rate, "acceptance_length": each.acceptance_length,
         **ends(each.length_interval)}
        for each in known
    )  # fmt: skip
    title = "Acceptance length by category of prompts"
    return Drawing("acceptance-categories", title, told_by(rows), draw, figures)
