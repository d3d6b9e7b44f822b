"""`specbench report`: stored runs as a page, or in another format."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.options import RUNS_DIR, AllowUnfairOption, RunsArgument, RunsDirOption, stored_runs

if TYPE_CHECKING:
    from specbench.analysis.report import Report
    from specbench.records import Run

PAGE = Path("report.html")


class Format(str, Enum):
    """In which form a report is written."""

    HTML = "html"
    MARKDOWN = "md"
    CSV = "csv"
    JSON = "json"


def report(
    runs: RunsArgument = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Default: report.html; other formats go to stdout."),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="In which form.")] = Format.HTML,
    charts: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write every chart there, as SVG and PNG.")
    ] = None,
    allow_unfair: AllowUnfairOption = False,
    runs_dir: RunsDirOption = RUNS_DIR,
) -> None:
    """Write what stored runs say: one self-contained page, verdict first; or Markdown, CSV or JSON."""
    from specbench.analysis.report import report as report_of
    from specbench.render import console

    made = report_of(stored_runs(runs, runs_dir), allow_unfair)
    text = _text(made, form)
    path = PAGE if out is None and form is Format.HTML else out
    if path is None:
        console.out.file.write(text)
    else:
        write(text, path)
    if charts:
        from specbench.render.report import pictures
        from specbench.render.report.charts import drawings

        pictures.demand_extra()
        for written in pictures.write_files(drawings(made), charts):
            console.note(f"wrote {written}")


def write_page(runs: Sequence[Run], path: Path, allow_unfair: bool) -> None:
    """Write the page of these runs."""
    from specbench.analysis.report import report as report_of

    write(_text(report_of(runs, allow_unfair), Format.HTML), path)


def write(text: str, path: Path) -> None:
    """Write a file and say so.

    Raises:
        SpecbenchError: it cannot be written.
    """
    from specbench.errors import SpecbenchError
    from specbench.render import console

    try:
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise SpecbenchError(f"{path} cannot be written: {error.strerror}", "choose another file") from error
    console.note(f"wrote {path}")


def _text(made: Report, form: Format) -> str:
    import json

    from specbench.render.report import documents

    if form is Format.HTML:
        from specbench.render.report.page import page

        return page(made)
    if form is Format.JSON:
        return json.dumps(documents.report_document(made), indent=2, ensure_ascii=False) + "\n"
    return documents.as_csv(made) if form is Format.CSV else documents.as_markdown(made)
