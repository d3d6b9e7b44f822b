"""`specbench compare`: stored runs, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specbench.cli.options import (
    RUNS_DIR,
    AllowUnfairOption,
    JsonOption,
    RunsArgument,
    RunsDirOption,
    stored_runs,
)

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
    """Show the verdict of stored runs and a table of their methods. Refuses runs that are not comparable.

    With ids of `specbench verify`, shows those verifications side by side.
    """
    from specbench.render import showing
    from specbench.render.report import output
    from specbench.stats.report import report
    from specbench.verify import store

    if verified := store.named(runs_dir, runs or ()):
        if html:
            output.write(output.text_of(verified, output.Format.HTML), html)
        showing.show_verifications(verified, as_json)
        return
    found = stored_runs(runs, runs_dir)
    if html:
        output.write(output.text_of(report(found, allow_unfair), output.Format.HTML), html)
    showing.show_runs(found, as_json, allow_unfair, details)
