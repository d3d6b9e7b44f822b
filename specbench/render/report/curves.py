"""Charts with two measured axes: acceptance by position, memory over time."""

from __future__ import annotations

from specbench.render.report.inks import Ink, alt, by_name, legend_of, looks_of
from specbench.render.report.marks import Drawing, data, finished, titled, told_by
from specbench.stats.headline import ranked
from specbench.stats.report import Report

DASH_SIZE = 300  # of a legend's symbol, long enough to show that its line is dashed


def acceptance(report: Report) -> Drawing | None:
    """Conditional acceptance (full lines) and survival (dashed) by position in the draft."""
    points = []
    for row in ranked(report.comparison):
        for kind in ("conditional", "survival"):
            points += [
                {"method": row.method, "kind": kind, "position": position, "share": share,
                 "label": f"{row.method} at {position}, {kind}: {share:.2f}"}
                for position, share in enumerate(getattr(row.acceptance, kind, ()), 1)
                if share is not None
            ]  # fmt: skip
    if not points:
        return None
    methods = list(dict.fromkeys(point["method"] for point in points))
    kinds = list(dict.fromkeys(point["kind"] for point in points))

    def draw(ink: Ink, width: int) -> alt.LayerChart:
        last = max(point["position"] for point in points)
        color, shape = by_name("method", methods, looks_of(report), ink, width)
        base = alt.Chart(data(points)).encode(
            x=alt.X(
                "position:Q",
                scale=alt.Scale(domain=[0.7, last + 0.3], nice=False),
                axis=alt.Axis(values=list(range(1, last + 1)), tickCount=last, format="d", grid=False),
                title=titled("position in the draft (1 is the first drafted token)", width),
            ),
            y=alt.Y(
                "share:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%"), title="share accepted"
            ),
            color=color,
        )
        dash = alt.StrokeDash(
            "kind:N",
            title=None,
            scale=alt.Scale(domain=kinds, range=[[1, 0], [4, 3]]),
            legend=legend_of(width, DASH_SIZE),
        )
        marks = [
            base.mark_line(strokeWidth=2.5).encode(strokeDash=dash),
            base.mark_point(filled=True, size=70, opacity=1).encode(shape=shape, description="label:N"),
        ]
        return finished(marks, ink, width)

    figures = tuple({name: value for name, value in point.items() if name != "label"} for point in points)
    return Drawing("acceptance", "Acceptance by position in the draft", told_by(points), draw, figures)


def memory(report: Report, run: str, field: str) -> Drawing | None:
    """Memory of a run over the time spent answering: a line an answer, and a point at its peak."""
    known = [point for point in report.memory[run] if getattr(point, field) is not None]
    if not known:
        return None
    name = "resident memory" if field == "rss_bytes" else "CUDA memory"
    peaks, looks = [], []
    for answer, point in enumerate(known):
        course = [
            (look.busy_s, value / 1e9) for look in point.course if (value := getattr(look, field)) is not None
        ]
        looks += [
            {"method": point.method, "answer": answer, "busy_s": busy_s, "gb": gb} for busy_s, gb in course
        ]
        gb = getattr(point, field) / 1e9
        at_s = max(course, key=lambda look: look[1])[0] if course else point.busy_s
        peaks.append({"method": point.method, "busy_s": at_s, "gb": gb,
                      "label": f"{point.method} at {at_s:.0f} s: {gb:.2f} GB"})  # fmt: skip
    seen = {point["method"] for point in peaks}
    methods = [row.method for row in ranked(report.comparison) if row.method in seen]

    def draw(ink: Ink, width: int) -> alt.LayerChart:
        color, shape = by_name("method", methods, looks_of(report), ink, width)
        x = alt.X("busy_s:Q", title=titled("time spent answering so far, all methods of the run (s)", width))
        y = alt.Y("gb:Q", scale=alt.Scale(zero=True), title=f"{name} (GB)")
        base = alt.Chart(data(peaks)).encode(x=x, y=y)
        # Where nothing finer is stored, the peaks are joined to show their order.
        line = base.mark_line(color=ink["grid"], strokeWidth=2)
        if looks:
            line = alt.Chart(data(looks)).mark_line(strokeWidth=2.5)
            line = line.encode(x=x, y=y, color=color, detail="answer:N")
        marks = [
            line,
            base.mark_point(filled=True, size=25 if looks else 60, opacity=0.9).encode(
                color=color, shape=shape, description="label:N"
            ),
        ]
        return finished(marks, ink, width)

    low, high = (pick(point["gb"] for point in peaks) for pick in (min, max))
    title = f"{name[0].upper()}{name[1:]} while answering" + (f", run {run}" if len(report.memory) > 1 else "")
    told = f"{len(peaks)} answers, their peaks from {low:.2f} to {high:.2f} GB"
    figures = tuple(
        {name: value for name, value in point.items() if name != "answer"} for point in looks
    ) or tuple({name: value for name, value in point.items() if name != "label"} for point in peaks)
    return Drawing(f"{'memory' if field == 'rss_bytes' else 'cuda'}-{run}", title, told, draw, figures)
