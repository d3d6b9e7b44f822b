"""`specbench run`: methods over prompts, interleaved, stored and shown."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.options import (
    RUNS_DIR,
    JsonOption,
    PluginOption,
    ProfileOption,
    RunsDirOption,
    SetOption,
    demand_alone,
)
from specbench.errors import ExitCode

if TYPE_CHECKING:
    from specbench.benchmark.job import Job
    from specbench.results.records import Manifest
    from specbench.results.store import RunStore


def run(
    methods: Annotated[
        list[str] | None, typer.Argument(metavar="METHOD", help="See 'specbench plugins'; none with --resume.")
    ] = None,
    profile: ProfileOption = "default",
    overrides: SetOption = None,
    limit: Annotated[int | None, typer.Option(help="How many prompts (workload.limit).")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Tokens per answer (workload.max_new_tokens).")
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(metavar="FILE.jsonl", help="Prompts in Spec-Bench's format (workload.prompts)."),
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(help="How often every prompt is asked (workload.repeats).")
    ] = None,
    tune_on: Annotated[
        str | None,
        typer.Option(
            metavar="CATEGORY|FILE", help="Choose the draft length on these prompts, and report on others."
        ),
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="Leave out the control; no speed-up is shown.")] = False,
    isolate: Annotated[
        bool, typer.Option("--isolate", help="Run each method in a child first, for the memory of its own.")
    ] = False,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a run that was stopped, as it was started.")
    ] = None,
    runs_dir: RunsDirOption = RUNS_DIR,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run METHODS over the profile's prompts, with the control beside them, and print the table."""
    from specbench.api import CloudLostError
    from specbench.benchmark.differences import outcome
    from specbench.benchmark.execution import execute
    from specbench.render.live import make_view
    from specbench.results.store import RunStore

    store = RunStore(runs_dir)
    settings = {"limit": limit, "max_new_tokens": max_new_tokens, "prompts": prompts, "repeats": repeats}
    job = asked(
        store,
        methods,
        profile,
        overrides or (),
        workload_settings(settings),
        plugins=plugin or (),
        only=only,
        isolate=isolate,
        tune_on=tune_on,
        resume=resume,
    )
    try:
        finished = execute(job, make_view()).manifest
    except (KeyboardInterrupt, CloudLostError) as error:
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
) -> Job:
    """What the options of this command ask for; with --resume alone they come on top of what the run was."""
    from specbench.benchmark.job import new_job
    from specbench.benchmark.resuming import resumed_job
    from specbench.profile import load_profile

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


def workload_settings(options: Mapping[str, object]) -> dict[str, object]:
    """The workload's keys that options of this command set, by their dotted names."""
    names = ("limit", "max_new_tokens", "prompts", "repeats")
    return {f"workload.{name}": options[name] for name in names if options[name] is not None}


def _show_tracebacks(manifest: Manifest) -> None:
    """With `--debug`, where the methods failed that did."""
    from specbench.cli.options import debugging
    from specbench.render import console

    for failure in manifest.failures if debugging.shows_tracebacks else ():
        if failure.traceback:
            console.note(f"{failure.method}: {failure.traceback}")


def _show(store: RunStore, run_id: str, as_json: bool, interrupted: bool = False) -> None:
    """Print what a run has; a fault of ours in doing so says first that the run is kept."""
    from specbench.cli.compare import show
    from specbench.render import console

    stored = store.read(run_id)
    if interrupted:
        kept = f"interrupted; {len(stored.generations)} generations are kept"
        console.note(f"{kept}, 'specbench run --resume {run_id}' goes on")
    if any(not generation.interrupted for generation in stored.generations):
        try:
            show([stored], as_json)
        except Exception:
            console.note(
                f"run {run_id} is stored; only showing it failed, and 'specbench compare {run_id}' does that"
            )
            raise
