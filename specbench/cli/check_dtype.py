"""`specbench check-dtype`: is the precision what it should be, on both sides?"""

from __future__ import annotations

from typing import Annotated

import typer

from specbench.cli import options
from specbench.cli.options import A_RUN, RUNS_DIR, option
from specbench.errors import ExitCode, SpecbenchError

EXAMPLES = ("specbench check-dtype", "specbench check-dtype --profile default --load")


def check_dtype(
    profile: Annotated[
        str | None,
        option(
            "--profile -p",
            "Name of a profile, or path of a YAML file (default: all shipped; with --load, default).",
            "NAME|FILE",
        ),
    ] = None,
    every: Annotated[
        bool, option("--all", "Check all shipped profiles. With --load, missing models are unknown.")
    ] = False,
    load: Annotated[
        bool, option("--load", "Load both models and check every tensor, not the declaration alone.")
    ] = False,
    runs: Annotated[
        list[str] | None,
        option(
            "--run",
            f"Check a stored run instead: {A_RUN}. Repeatable; further runs are compared with the first.",
            "RUN",
        ),
    ] = None,
    overrides: options.SetOption = None,
    plugin: options.PluginOption = None,
    runs_dir: options.RunsDirOption = RUNS_DIR,
    as_json: options.JsonOption = False,
) -> None:
    """Check that edge and cloud have the precision that the profile demands. Exits with 1 if not."""
    if runs and (profile or every or load or overrides or plugin):
        raise SpecbenchError(
            "--run checks stored runs, whose profile, methods and precision are fixed",
            "leave out --profile, --all, --load, --set and --plugin",
        )
    options.demand_alone("--all" if every else "", {"--profile": profile})
    from specbench.benchmark.dtype_checks import profile_reports, run_reports
    from specbench.render.showing import show_checks

    if runs:
        reports = run_reports([run.manifest for run in options.stored_runs(runs, runs_dir)])
    else:
        reports = profile_reports(profile, every, load, overrides or (), plugin or ())
    ok = all(report["ok"] for report in reports)
    show_checks(reports, ok, as_json, briefly=not (runs or load or profile))
    if not ok:
        raise typer.Exit(int(ExitCode.CHECK_FAILED))
