"""Reports and grids as files: one text in a chosen format, and charts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from specbench.errors import ExitCode, SpecbenchError

if TYPE_CHECKING:
    from specbench.forecast.grid import Grid
    from specbench.stats.report import Report
    from specbench.verify.records import Result


class Format(str, Enum):
    """Output format of a report; the value is the suffix of such a file."""

    HTML = "html"
    MARKDOWN = "md"
    CSV = "csv"
    JSON = "json"


SUFFIXES = {Format.HTML: ("html", "htm"), Format.MARKDOWN: ("md", "markdown")}


def format_of(asked: Format | None, out: Path | None) -> Format:
    """The format that is asked for, or that the file's name says.

    Raises:
        SpecbenchError: they contradict each other.
    """
    suffix = out.suffix.lower().removeprefix(".") if out else ""
    named = next((each for each in Format if suffix in SUFFIXES.get(each, (each.value,))), None)
    if asked and named and asked is not named:
        raise SpecbenchError(
            f"--format {asked.value} contradicts --out {out}, whose suffix means {named.value}",
            f"leave out --format, or write to {out.with_suffix('.' + asked.value)}" if out else None,
        )
    return asked or named or Format.HTML


@dataclass(frozen=True)
class Wanted:
    """What a command is asked to write besides its answer.

    Args:
        html: the file for the page.
        charts: the folder for charts.
        width_mm: of each chart; that of a page with two columns when absent.
        methods: those that charts show, separated by commas; all when absent.
    """

    html: Path | None = None
    charts: Path | None = None
    width_mm: float | None = None
    methods: str | None = None

    @property
    def shown(self) -> list[str]:
        """The methods that charts show; empty for all."""
        return [name.strip() for name in (self.methods or "").split(",") if name.strip()]

    def demand(self, known: Collection[str] = ()) -> None:
        """Refuse what could not be written, before anything is computed for it.

        Args:
            known: the methods that there will be, where that is known.

        Raises:
            SpecbenchError: an option has no effect or no valid value, a place cannot be written, or `[report]`
                is not installed.
        """
        from specbench.render.report import pictures

        given = {"--chart-width-mm": self.width_mm, "--methods": self.methods}
        for name in [name for name, value in given.items() if value is not None and self.charts is None]:
            raise SpecbenchError(f"{name} has no effect without --charts", "--charts DIR writes the charts")
        if self.width_mm is not None and not pictures.NARROWEST_MM <= self.width_mm <= pictures.WIDEST_MM:
            raise SpecbenchError(
                f"--chart-width-mm {self.width_mm:g} is not between {pictures.NARROWEST_MM:g} and "
                f"{pictures.WIDEST_MM:g}",
                "--chart-width-mm 84 suits one column of a paper, 176 both",
            )
        if known:
            pictures.demand_methods(self.shown, known, "sweep")
        if self.html:
            demand_place(self.html)
        above = (self.charts, *self.charts.parents) if self.charts else ()
        if above and not next(each for each in above if each.exists()).is_dir():
            raise SpecbenchError(
                f"the charts cannot be written to {self.charts}: it is not a folder", exit_code=ExitCode.STORE
            )
        if self.html or self.charts:
            pictures.demand_extra()


def demand_place(path: Path) -> None:
    """Refuse a file that cannot be written, before anything is computed for it.

    Raises:
        SpecbenchError: its folder does not exist, or it is a folder itself.
    """
    if path.is_dir() or not path.parent.is_dir():
        reason = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise SpecbenchError(f"{path} cannot be written: {reason}", exit_code=ExitCode.STORE)


def write(text: str, path: Path) -> None:
    """Write a file and say so.

    Raises:
        SpecbenchError: it cannot be written.
    """
    from specbench.render import console

    try:
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise SpecbenchError(
            f"{path} cannot be written: {error.strerror}", "choose another file", ExitCode.STORE
        ) from error
    console.note(f"wrote {path}")


def text_of(found: Report | Grid | Sequence[Result], form: Format) -> str:
    """A report, a grid or verifications in one format.

    Raises:
        SpecbenchError: it is a page, and `[report]` is not installed.
    """
    from specbench.forecast.grid import Grid
    from specbench.render.report import documents, grids, maps, page, verified

    if isinstance(found, Sequence):
        shown = {Format.HTML: verified.page, Format.MARKDOWN: verified.markdown, Format.CSV: verified.as_csv,
                 Format.JSON: verified.as_json}  # fmt: skip
        return shown[form](found)
    if isinstance(found, Grid):
        if form is Format.HTML:
            return maps.map_page(found.rows, found.title, found.notes)
        if form is Format.MARKDOWN:
            return grids.grid_markdown(found.rows, found.title, found.notes)
        return grids.grid_csv(found.rows) if form is Format.CSV else grids.grid_json(found)
    forms = {Format.HTML: page.page, Format.MARKDOWN: documents.as_markdown, Format.CSV: documents.as_csv,
             Format.JSON: documents.as_json}  # fmt: skip
    return forms[form](found)


def write_charts(found: Report | Grid, wanted: Wanted) -> None:
    """Write every chart with its figures, and say so; beside the charts of a grid stand all its rows.

    Raises:
        SpecbenchError: the folder cannot be written, or there is no such method.
    """
    from specbench.forecast.grid import Grid
    from specbench.render import console
    from specbench.render.report import charts, grids, pictures

    if wanted.charts is None:
        return
    rows: dict[str, str | bytes] = {}
    if isinstance(found, Grid):
        drawings = grids.grid_drawings(grids.chosen_rows(found.rows, wanted.shown))
        rows = {"grid.csv": grids.grid_csv(found.rows), "grid.json": grids.grid_json(found)}
    else:
        drawings = charts.drawings(charts.chosen(found, wanted.shown))
    width_mm = pictures.WIDTH_MM if wanted.width_mm is None else wanted.width_mm
    written = pictures.write_files(drawings, wanted.charts, width_mm)
    for path in [*written, *pictures.write_into(wanted.charts, rows)]:
        console.note(f"wrote {path}")
