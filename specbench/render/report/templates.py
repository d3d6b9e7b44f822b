"""Pages from templates: charts in both widths, the style sheet, and every value escaped."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from specbench import __version__
from specbench.render.report import inks, pictures
from specbench.render.report.marks import Drawing
from specbench.stats import fairness

MARKS = {fairness.EQUAL: " equal", fairness.NOT_EQUAL: " unequal", fairness.ON_PURPOSE: " purpose",
         fairness.UNKNOWN: " unknown"}  # fmt: skip


def shown_charts(drawings: Sequence[Drawing]) -> dict[str, dict]:
    """Charts by name, as a page for screens and telephones shows them.

    Raises:
        SpecbenchError: `[report]` is not installed.
    """
    pictures.demand_extra()
    from markupsafe import Markup

    return {
        drawing.name: {
            "title": drawing.title,
            "wide": Markup(pictures.on_page(drawing, pictures.PAGE_PX)),
            "narrow": Markup(pictures.on_page(drawing, pictures.PHONE_PX)),
        }
        for drawing in drawings
    }


def render(template: str, **values: object) -> str:
    """A page from its template; every value is escaped."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: pictures.printable(value) if type(value) is str else value,
        trim_blocks=True,
    )
    environment.globals["marks"] = MARKS
    return environment.get_template(template).render(version=__version__, style=Markup(style()), **values)


def _source(name: str) -> str:
    return (resources.files("specbench.render.report") / name).read_text(encoding="utf-8")


def style() -> str:
    """The style sheet, with the colours of charts as variables; paper is always light."""
    light, dark = (
        "".join(f"--{name}:{color};" for name, color in found.items()) for found in (inks.LIGHT, inks.DARK)
    )
    scheme = f"@media screen and (prefers-color-scheme:dark){{:root{{color-scheme:dark;{dark}}}}}\n"
    return f":root{{color-scheme:light;{light}}}\n{scheme}{_source('page.css')}"
