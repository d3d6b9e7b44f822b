"""`specbench compare`: stored runs, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.options import (
    RUNS_DIR,
    AllowUnfairOption,
    JsonOption,
    RunsArgument,
    RunsDirOption,
    stored_runs,
)

if TYPE_CHECKING:
    from specbench.results.records import Run

EXAMPLES = ("specbench compare latest --details", "specbench compare before after --html report.html")


def compare(
    runs: RunsArgument = None,
    details: Annotated[
        bool,
        typer.Option("--details", help="Also show texts, memory, acceptance by position, and where time goes."),
    ] = False,
    allow_unfair: AllowUnfairOption = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Also write the HTML page of 'specbench report'."),
    ] = None,
    runs_dir: RunsDirOption = RUNS_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show the verdict of stored runs and a table of their methods. Refuses runs that are not comparable."""
    found = stored_runs(runs, runs_dir)
    if html:
        from specbench.cli.report import write_page

        write_page(found, html, allow_unfair)
    show(found, as_json, allow_unfair, details)


def show(runs: Sequence[Run], as_json: bool, allow_unfair: bool = False, details: bool = False) -> None:
    """Print the comparison of runs, as a table or as JSON."""
    from specbench.render import console
    from specbench.stats.comparison import compare as compare_runs

    comparison = compare_runs(runs, allow_unfair)
    if as_json:
        from specbench.render.report.documents import comparison_document

        console.print_json(comparison_document(comparison))
    else:
        from specbench.render.results import comparison_table

        console.out.print(comparison_table(comparison, details))
