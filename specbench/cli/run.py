"""`specbench run`: methods over prompts, interleaved, stored and shown."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.options import (
    A_RUN,
    RUNS_DIR,
    JsonOption,
    LimitOption,
    MaxNewTokensOption,
    PluginOption,
    ProfileOption,
    PromptsOption,
    RepeatsOption,
    RunsDirOption,
    SetOption,
    demand_alone,
    workload_settings,
)
from specbench.errors import CloudLostError, ExitCode

if TYPE_CHECKING:
    from specbench.benchmark.job import Job
    from specbench.results.records import Manifest
    from specbench.results.store import RunStore


EXAMPLES = (
    "specbench run speculative prompt_lookup",
    "specbench run speculative --set link.rtt_ms=20 --set cloud.placement=process --name wifi",
)


def run(
    methods: Annotated[
        list[str] | None,
        typer.Argument(metavar="METHOD", help="Methods to run, as 'specbench plugins' lists them."),
    ] = None,
    profile: ProfileOption = "default",
    overrides: SetOption = None,
    limit: LimitOption = None,
    max_new_tokens: MaxNewTokensOption = None,
    prompts: PromptsOption = None,
    repeats: RepeatsOption = None,
    tune_on: Annotated[
        str | None,
        typer.Option(
            metavar="CATEGORY|FILE",
            help="Choose the draft length on the prompts of a category or file, and measure on the others.",
        ),
    ] = None,
    only: Annotated[
        bool, typer.Option("--only", help="Run without the control. No speed-up is shown then.")
    ] = False,
    isolate: Annotated[
        bool,
        typer.Option("--isolate", help="Also run each method in its own process to measure its peak memory."),
    ] = False,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name for the run, usable wherever a run id is."),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help=f"Resume an interrupted run with its original settings: {A_RUN}."),
    ] = None,
    runs_dir: RunsDirOption = RUNS_DIR,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run methods over prompts, with the control alongside, store the run and show the result."""
    from specbench.render.live import make_view
    from specbench.results.store import RunStore

    store = RunStore(runs_dir)
    with closing(make_view()) as view:  # on the screen before the imports below, which take seconds
        from specbench.benchmark.differences import outcome
        from specbench.benchmark.execution import execute

        job = asked(
            store,
            methods,
            profile,
            overrides or (),
            workload_settings(limit, max_new_tokens, prompts, repeats),
            plugins=plugin or (),
            only=only,
            isolate=isolate,
            tune_on=tune_on,
            resume=resume,
            name=name,
        )
        try:
            finished = execute(job, view).manifest
        except (KeyboardInterrupt, CloudLostError) as error:
            view.close()
            if job.run_id in store.ids():
                _show(store, job.run_id, as_json, interrupted=True)
            if isinstance(error, CloudLostError):
                raise
            raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    _show_tracebacks(finished)
    _show(store, job.run_id, as_json)
    if code := outcome(finished):
        raise typer.Exit(int(code))


def asked(
    store: RunStore,
    methods: Sequence[str] | None,
    profile: str,
    overrides: Sequence[str],
    settings: dict[str, object],
    *,
    plugins: Sequence[Path],
    only: bool,
    isolate: bool,
    tune_on: str | None,
    resume: str | None = None,
    name: str | None = None,
) -> Job:
    """The job that these options ask for. With --resume alone they change the settings of the stored run."""
    from specbench.benchmark.job import new_job
    from specbench.benchmark.resuming import resumed_job
    from specbench.profile import load_profile

    demand_alone("--resume" if resume else "", {"--name": name})
    if not resume or methods:
        return new_job(
            store,
            load_profile(profile, overrides, settings),
            Path(profile).stem,
            methods,
            plugins=plugins,
            only=only,
            isolate=isolate,
            tune_on=tune_on,
            resume=resume,
            name=name,
            command=sys.argv[1:],
        )
    demand_alone("--resume without METHODS", {"--profile": profile != "default"})
    return resumed_job(
        store,
        resume,
        overrides=overrides,
        settings=settings,
        plugins=plugins,
        isolate=isolate,
        tune_on=tune_on,
        command=sys.argv[1:],
    )


def _show_tracebacks(manifest: Manifest) -> None:
    """With `--debug`, where the methods failed that did."""
    from specbench.cli.options import debugging
    from specbench.render import console

    for failure in manifest.failures if debugging.shows_tracebacks else ():
        if failure.traceback:
            console.note(f"{failure.method}: {failure.traceback}")


def _show(store: RunStore, run_id: str, as_json: bool, interrupted: bool = False) -> None:
    """Print what a run has; where our own printing fails, say first that the run is stored."""
    from specbench.cli.compare import show
    from specbench.render import console

    stored = store.read(run_id)
    if interrupted:
        kept = f"interrupted after {len(stored.generations)} answers, which are stored"
        console.note(f"{kept}; resume with 'specbench run --resume {run_id}'")
    if any(not generation.interrupted for generation in stored.generations):
        try:
            show([stored], as_json)
        except Exception:
            console.note(f"run {run_id} is stored; show it with 'specbench compare {run_id}'")
            raise
