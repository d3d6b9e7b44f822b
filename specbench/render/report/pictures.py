"""Charts as pictures: SVG inside the page; SVG, PNG, PDF and CSV files.

vl-convert runs the Vega that it carries when a page is made, so that the page itself needs no script.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from specbench.errors import ExitCode, SpecbenchError
from specbench.render.report import inks
from specbench.render.report.marks import Drawing
from specbench.render.report.tabular import csv_text

PAGE_PX, PHONE_PX = 760, 340
WIDTH_MM = 176.0  # of a page with two columns; one column is 84 mm
NARROWEST_MM, WIDEST_MM = 60.0, 400.0
PX_PER_MM = 96 / 25.4
POINTS_PER_PX = 72 / 96
PNG_PPI = 300
SVG = "http://www.w3.org/2000/svg"
SVG_WIDTH = re.compile(r'<svg[^>]*? width="([\d.]+)"')
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def printable(text: str) -> str:
    """Without control characters and halves of surrogate pairs, which neither HTML nor XML can hold."""
    return NOT_XML.sub("\ufffd", text)


def demand_extra() -> None:
    """Check that what draws pages and charts is installed.

    Raises:
        SpecbenchError: it is not.
    """
    try:
        import altair  # noqa: F401
        import jinja2  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise SpecbenchError(
            f"pages and charts need {error.name}, which is not installed",
            "pip install 'specbench[report]'; 'specbench report --format md' needs nothing more",
        ) from error


def demand_methods(names: Sequence[str], known: Collection[str], where: str) -> None:
    """Refuse methods that are not there.

    Raises:
        SpecbenchError: naming the first one, and those that are.
    """
    for name in names:
        if name not in known:
            raise SpecbenchError(f"no method {name!r} in this {where}", f"its methods are: {', '.join(known)}")


def on_page(drawing: Drawing, width: int) -> str:
    """An SVG element that takes its colours from the page's CSS variables, and names each mark on hover."""
    root = ElementTree.fromstring(_svg(drawing, inks.ON_PAGE, width))
    for element in list(root.iter()):
        label, role = element.get("aria-label"), element.get("role")
        for name in [name for name in element.attrib if name == "role" or name.startswith("aria-")]:
            del element.attrib[name]
        if role == "graphics-symbol" and label and not element.findall("*"):
            ElementTree.SubElement(element, f"{{{SVG}}}title").text = label
    root.set("role", "img")
    root.set("aria-label", printable(f"{drawing.title}. {drawing.description}"))
    ElementTree.register_namespace("", SVG)
    return ElementTree.tostring(root, encoding="unicode")


def write_files(drawings: Sequence[Drawing], folder: Path, width_mm: float = WIDTH_MM) -> list[Path]:
    """Write every chart as `NAME.svg`, `.png` and `.pdf` on white, so many millimetres wide, and `NAME.csv`.

    Letters have the same size, 9 points, at every width.

    Raises:
        SpecbenchError: the folder cannot be written.
    """
    import vl_convert

    files: dict[str, str | bytes] = {}
    for drawing in drawings:
        svg = _svg(drawing, inks.LIGHT, round(width_mm * PX_PER_MM), inks.LIGHT["paper"])
        files[f"{drawing.name}.svg"] = _sized(svg, 1 / PX_PER_MM, "mm")
        files[f"{drawing.name}.png"] = vl_convert.svg_to_png(svg, scale=POINTS_PER_PX, ppi=PNG_PPI)
        files[f"{drawing.name}.pdf"] = vl_convert.svg_to_pdf(_sized(svg, POINTS_PER_PX, ""))
        files[f"{drawing.name}.csv"] = figures_csv(drawing)
    return write_into(folder, files)


def figures_csv(drawing: Drawing) -> str:
    """What a chart draws, a line a mark, unrounded; unknown figures are empty."""
    return csv_text(list(dict.fromkeys(name for row in drawing.figures for name in row)), drawing.figures)


def write_into(folder: Path, files: Mapping[str, str | bytes]) -> list[Path]:
    """Write files by name into a folder, which is made.

    Raises:
        SpecbenchError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            data = content.encode("utf-8") if isinstance(content, str) else content
            (folder / name).write_bytes(data)
    except OSError as error:
        raise SpecbenchError(
            f"the charts cannot be written to {folder}: {error.strerror}",
            "choose another folder",
            ExitCode.STORE,
        ) from error
    return [folder / name for name in files]


def _svg(drawing: Drawing, ink: inks.Ink, width: int, background: str = "transparent") -> str:
    """The chart, so many pixels wide; what axes and legends take is known when it has been drawn once."""
    svg = _drawn(drawing, ink, width, background)
    found = SVG_WIDTH.search(svg)
    assert found is not None  # vl_convert writes the size of every picture
    missing = round(width - float(found[1]))
    return _drawn(drawing, ink, width + missing, background) if abs(missing) > 1 else svg


def _drawn(drawing: Drawing, ink: inks.Ink, width: int, background: str) -> str:
    import vl_convert

    spec = drawing.draw(ink, width).to_dict()
    return vl_convert.vegalite_to_svg(_clean({**spec, "background": background}))


def _sized(svg: str, factor: float, unit: str) -> str:
    """The same picture, its size in pixels times a factor, in another unit."""
    return re.sub(
        r'(<svg[^>]*? width=)"([\d.]+)" height="([\d.]+)"',
        lambda found: (
            f'{found[1]}"{float(found[2]) * factor:.2f}{unit}" height="{float(found[3]) * factor:.2f}{unit}"'
        ),
        svg,
        count=1,
    )


def _clean(value: object) -> Any:
    """Every text of a specification made printable."""
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return printable(value) if isinstance(value, str) else value
