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


def compare(
    runs: RunsArgument = None,
    allow_unfair: AllowUnfairOption = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the page of 'specbench report'.")
    ] = None,
    runs_dir: RunsDirOption = RUNS_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show what stored runs say, verdict first; runs that are not comparable are refused."""
    found = stored_runs(runs, runs_dir)
    if html:
        from specbench.cli.report import write_page

        write_page(found, html, allow_unfair)
    show(found, as_json, allow_unfair)


def show(runs: Sequence[Run], as_json: bool, allow_unfair: bool = False) -> None:
    """Print the comparison of runs, as a table or as JSON."""
    from specbench.render import console
    from specbench.stats.comparison import compare as compare_runs

    comparison = compare_runs(runs, allow_unfair)
    if as_json:
        from specbench.render.report.documents import comparison_document

        console.print_json(comparison_document(comparison))
    else:
        from specbench.render.tables import comparison_table

        console.out.print(comparison_table(comparison))
