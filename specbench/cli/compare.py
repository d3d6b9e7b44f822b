"""`specbench compare`: stored runs, side by side."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from specbench.cli import options
from specbench.cli.options import RUNS_DIR, option
from specbench.errors import SpecbenchError

EXAMPLES = ("specbench compare latest --details", "specbench compare before after --fail-if-slower 5%")


def compare(
    runs: options.RunsArgument = None,
    details: Annotated[
        bool, option("--details", "Also show texts, memory, acceptance by position, and where time goes.")
    ] = False,
    allow_unfair: options.AllowUnfairOption = False,
    html: Annotated[
        Path | None, option("--html", "Also write the HTML page of 'specbench report'.", "FILE")
    ] = None,
    fail_if_slower: Annotated[
        str | None,
        option(
            "--fail-if-slower",
            "Exit with 1 if a token takes more than P longer: than the control's, or, of several runs, than in "
            "the first. Decided by the 95 % interval; undecided is no failure.",
            "P%",
        ),
    ] = None,
    runs_dir: options.RunsDirOption = RUNS_DIR,
    as_json: options.JsonOption = False,
) -> None:
    """Show the verdict of stored runs and a table of their methods. Refuses runs that are not comparable.

    With ids of `specbench verify`, shows those verifications side by side.
    """
    from specbench.render import showing
    from specbench.render.report import output
    from specbench.stats.report import report
    from specbench.verify import store

    if verified := store.named(runs_dir, runs or ()):
        options.demand_alone("verifications", {"--fail-if-slower": fail_if_slower})
        if html:
            output.write(output.text_of(verified, output.Format.HTML), html)
        showing.show_verifications(verified, as_json)
        return
    options.demand_alone("--fail-if-slower" if fail_if_slower else "", {"--allow-unfair": allow_unfair})
    allowed = _fraction(fail_if_slower) if fail_if_slower else None
    found = options.stored_runs(runs, runs_dir)
    if html:
        output.write(output.text_of(report(found, allow_unfair), output.Format.HTML), html)
    if code := showing.show_runs(found, as_json, allow_unfair, details, allowed):
        raise typer.Exit(int(code))


def _fraction(text: str) -> float:
    """`5%` as 0.05."""
    with suppress(ValueError):
        if text.endswith("%") and 0 <= (percent := float(text[:-1])) < 1000:
            return percent / 100
    raise SpecbenchError(f"--fail-if-slower {text} is not a percentage", "for example --fail-if-slower 5%")
