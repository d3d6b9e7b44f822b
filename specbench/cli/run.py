"""`specbench run`: methods over prompts, interleaved, stored and shown."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Annotated, Any

import typer

from specbench.cli import options
from specbench.cli.options import A_RUN, RUNS_DIR, argument, option
from specbench.errors import CloudLostError, ExitCode

EXAMPLES = (
    "specbench run speculative prompt_lookup",
    "specbench run speculative --set link.rtt_ms=20 --set cloud.placement=process --name wifi",
)


def run(
    methods: Annotated[
        list[str] | None, argument("METHOD", "Methods to run, as 'specbench plugins' lists them.")
    ] = None,
    profile: options.ProfileOption = "default",
    overrides: options.SetOption = None,
    limit: options.LimitOption = None,
    max_new_tokens: options.MaxNewTokensOption = None,
    prompts: options.PromptsOption = None,
    repeats: options.RepeatsOption = None,
    restarts: Annotated[
        int | None,
        option(
            "--restarts",
            "Fresh processes that measure one after the other; the interval covers them from three on "
            "(default: workload.restarts).",
            "N",
        ),
    ] = None,
    tune_on: Annotated[
        str | None,
        option(
            "--tune-on",
            "Choose the draft length on the prompts of a category or file, and measure on the others.",
            "CATEGORY|FILE",
        ),
    ] = None,
    keep_prompts: Annotated[
        bool, option("--keep-prompts", "Store what the model read as text, beside its hash.")
    ] = False,
    only: Annotated[bool, option("--only", "Run without the control. No speed-up is shown then.")] = False,
    isolate: Annotated[
        bool, option("--isolate", "Also run each method in its own process to measure its peak memory.")
    ] = False,
    name: Annotated[
        str | None, option("--name", "Name for the run, usable wherever a run id is.", "NAME")
    ] = None,
    resume: Annotated[
        str | None, option("--resume", f"Resume an interrupted run with its original settings: {A_RUN}.", "RUN")
    ] = None,
    runs_dir: options.RunsDirOption = RUNS_DIR,
    plugin: options.PluginOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Run methods over prompts, with the control alongside, store the run and show the result."""
    from specbench.render import console
    from specbench.render.live import make_view
    from specbench.results.store import RunStore

    options.demand_alone("--resume" if resume else "", {"--name": name})
    options.demand_alone(
        "--resume without METHODS" if resume and not methods else "", {"--profile": profile != "default"}
    )
    store = RunStore(runs_dir)
    settings = options.workload_settings(limit, max_new_tokens, prompts, repeats, restarts)
    if keep_prompts:
        settings["workload.keep_prompts"] = True
    with closing(make_view()) as view:  # on the screen before the imports below, which take seconds
        from specbench.benchmark.differences import outcome
        from specbench.benchmark.execution import execute
        from specbench.benchmark.job import loaded_profile, new_job
        from specbench.benchmark.resuming import resumed_job
        from specbench.render.showing import show_stored

        words: Any = {"isolate": isolate, "tune_on": tune_on, "command": sys.argv[1:]}
        if resume and not methods:
            job = resumed_job(
                store, resume, overrides=overrides or (), settings=settings, plugins=plugin or (), **words
            )
        else:
            loaded = loaded_profile(profile, overrides or (), settings)
            job = new_job(
                store, *loaded, methods, plugins=plugin or (), only=only, resume=resume, name=name, **words
            )
        try:
            finished = execute(job, view).manifest
        except (KeyboardInterrupt, CloudLostError) as error:
            view.close()
            if job.run_id in store.ids():
                show_stored(store, job.run_id, as_json, interrupted=True)
            if isinstance(error, CloudLostError):
                raise
            raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    for failure in finished.failures if options.debugging.shows_tracebacks else ():
        if failure.traceback:
            console.note(f"{failure.method}: {failure.traceback}")
    show_stored(store, job.run_id, as_json)
    if code := outcome(finished):
        raise typer.Exit(int(code))
