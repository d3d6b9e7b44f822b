"""`specbench report`: stored runs as a page, or in another format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.options import (
    RUNS_DIR,
    AllowUnfairOption,
    ChartsOption,
    RunsArgument,
    RunsDirOption,
    stored_runs,
)

if TYPE_CHECKING:
    from specbench.benchmark.sweep_record import Sweep
    from specbench.results.records import Run
    from specbench.results.store import RunStore

    # Writes charts of a width in millimetres, of these methods or of all, into a folder.
    Files = Callable[[Path, float, Sequence[str]], list[Path]]

PAGE = Path("report.html")
EXAMPLES = ("specbench report", "specbench report latest --format md --charts figures")


class Format(str, Enum):
    """Output format of a report; the value is the suffix of such a file."""

    HTML = "html"
    MARKDOWN = "md"
    CSV = "csv"
    JSON = "json"


SUFFIXES = {Format.HTML: ("html", "htm"), Format.MARKDOWN: ("md", "markdown")}


def report(
    runs: RunsArgument = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Output file (default: report.html; stdout for other formats).",
        ),
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Output format (default: the suffix of --out, else html)."),
    ] = None,
    charts: ChartsOption = None,
    chart_width_mm: Annotated[
        float | None,
        typer.Option(
            "--chart-width-mm",
            metavar="MM",
            help="Width of the files of --charts: 84 for one column of a paper, 176 for both (default: 176).",
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            metavar="NAME,NAME",
            help="Methods that --charts draws, separated by commas (default: all).",
        ),
    ] = None,
    allow_unfair: AllowUnfairOption = False,
    runs_dir: RunsDirOption = RUNS_DIR,
) -> None:
    """Write a report of stored runs or of a sweep: a self-contained HTML page, Markdown, CSV or JSON."""
    from specbench.benchmark import sweep_record as sweeps
    from specbench.render import console
    from specbench.results.store import RunStore

    form = _format(form, out)
    width_mm = _width(charts, chart_width_mm, methods)
    store = RunStore(runs_dir)
    if runs and len(runs) == 1 and sweeps.exists(store, runs[0]):
        text, files = _of_sweep(sweeps.read(store, runs[0]), store, form)
    else:
        text, files = _of_runs(stored_runs(runs, runs_dir), allow_unfair, form)
    path = PAGE if out is None and form is Format.HTML else out
    if path is None:
        console.out.file.write(text)
    else:
        write(text, path)
    if charts:
        for written in files(charts, width_mm, _names(methods)):
            console.note(f"wrote {written}")


def _width(charts: Path | None, width_mm: float | None, methods: str | None) -> float:
    """The width of charts in millimetres.

    Raises:
        SpecbenchError: it is no width of a figure, or no charts are asked for.
    """
    from specbench.errors import SpecbenchError
    from specbench.render.report.pictures import NARROWEST_MM, WIDEST_MM, WIDTH_MM

    given = {"--chart-width-mm": width_mm, "--methods": methods}
    for name in [name for name, value in given.items() if value is not None and charts is None]:
        raise SpecbenchError(f"{name} has no effect without --charts", "--charts DIR writes the charts")
    if width_mm is not None and not NARROWEST_MM <= width_mm <= WIDEST_MM:
        raise SpecbenchError(
            f"--chart-width-mm {width_mm:g} is not between {NARROWEST_MM:g} and {WIDEST_MM:g}",
            "--chart-width-mm 84 suits one column of a paper, 176 both",
        )
    return WIDTH_MM if width_mm is None else width_mm


def _names(methods: str | None) -> list[str]:
    return [name.strip() for name in (methods or "").split(",") if name.strip()]


def _format(asked: Format | None, out: Path | None) -> Format:
    """The format that is asked for, or that the file's name says.

    Raises:
        SpecbenchError: they contradict each other.
    """
    suffix = out.suffix.lower().removeprefix(".") if out else ""
    named = next((each for each in Format if suffix in SUFFIXES.get(each, (each.value,))), None)
    if asked and named and asked is not named:
        from specbench.errors import SpecbenchError

        raise SpecbenchError(
            f"--format {asked.value} contradicts --out {out}, whose suffix means {named.value}",
            f"leave out --format, or write to {out.with_suffix('.' + asked.value)}" if out else None,
        )
    return asked or named or Format.HTML


def write_page(runs: Sequence[Run], path: Path, allow_unfair: bool) -> None:
    """Write the page of these runs."""
    write(_of_runs(runs, allow_unfair, Format.HTML)[0], path)


def write(text: str, path: Path) -> None:
    """Write a file and say so.

    Raises:
        SpecbenchError: it cannot be written.
    """
    from specbench.errors import ExitCode, SpecbenchError
    from specbench.render import console

    try:
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise SpecbenchError(
            f"{path} cannot be written: {error.strerror}", "choose another file", ExitCode.STORE
        ) from error
    console.note(f"wrote {path}")


def _of_runs(runs: Sequence[Run], allow_unfair: bool, form: Format) -> tuple[str, Files]:
    import json

    from specbench.render.report import documents, pictures
    from specbench.stats.report import report as report_of

    made = report_of(runs, allow_unfair)
    if form is Format.HTML:
        from specbench.render.report.page import page

        text = page(made)
    elif form is Format.JSON:
        text = json.dumps(documents.report_document(made), indent=2, ensure_ascii=False) + "\n"
    else:
        text = documents.as_csv(made) if form is Format.CSV else documents.as_markdown(made)

    def files(folder: Path, width_mm: float, methods: Sequence[str]) -> list[Path]:
        from specbench.render.report.charts import chosen, drawings

        pictures.demand_extra()
        shown = chosen(made, methods) if methods else made
        return pictures.write_files(drawings(shown), folder, width_mm)

    return text, files


def _of_sweep(sweep: Sweep, store: RunStore, form: Format) -> tuple[str, Files]:
    import json

    from specbench.errors import ExitCode, SpecbenchError
    from specbench.render import console
    from specbench.render.report import grids
    from specbench.sweeps.rows import swept

    made = swept(sweep, store)
    rows, title, notes = made.rows, made.title, made.notes
    for line in made.left_out:
        console.note(line)
    if not rows:
        raise SpecbenchError(
            f"sweep {sweep.sweep_id} has no finished run",
            f"resume it with 'specbench sweep --resume {sweep.sweep_id}'",
            ExitCode.STORE,
        )
    document = grids.grid_document(rows, sweep=sweep.sweep_id, runs=sweep.runs, notes=notes)
    if form is Format.HTML:
        from specbench.render.report.maps import map_page

        text = map_page(rows, title, notes)
    elif form is Format.JSON:
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    else:
        text = grids.grid_csv(rows) if form is Format.CSV else grids.grid_markdown(rows, title, notes)
    return text, lambda *asked: grids.write_grid(rows, document, *asked)
