"""`specbench submit`: runs and sweeps as jobs, on this machine or on a cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from specbench.cli.app import App
from specbench.cli.options import (
    RUNS_DIR,
    HtmlOption,
    JsonOption,
    RunsDirOption,
    demand_alone,
    demand_maps,
    examples,
    set_beside,
    show_help,
    workload_settings,
)
from specbench.errors import ExitCode

if TYPE_CHECKING:
    from specbench.cluster.jobs import Follower, Seen
    from specbench.cluster.submission import Submission

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

app = App(
    help="Run and sweep as jobs of Slurm or of this machine.",
    epilog=examples("specbench submit run speculative", "specbench submit collect"),
    callback=show_help,
)


class Launcher(str, Enum):
    """Who runs the jobs."""

    local = "local"
    slurm = "slurm"


LauncherOption = Annotated[
    Launcher, typer.Option("--launcher", help="What runs the jobs: this machine or Slurm.")
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", min=1, help="Jobs at a time with --launcher local (default: 1)."),
]
SubmissionArgument = Annotated[
    str | None, typer.Argument(metavar="SUBMISSION", help="Id of the submission (default: the newest).")
]


@app.command(
    "run",
    context_settings=PASSED_ON,
    options_metavar="METHOD... [OPTIONS of 'specbench run']",
    epilog=examples("specbench submit run speculative --profile standard --launcher slurm"),
)
def run(context: typer.Context, launcher: LauncherOption = Launcher.slurm) -> None:
    """Submit one run as a job. Takes the methods and options of 'specbench run', and those below."""
    from specbench.cli.run import asked
    from specbench.cluster.submitting import submit
    from specbench.profile import Profile
    from specbench.profile.loading import validated
    from specbench.registry import discover
    from specbench.results.store import RunStore

    options = _parsed(context, "run")
    demand_alone("submit", {"--resume": options["resume"], "--json": options["as_json"]})
    store = RunStore(Path(options["runs_dir"]))
    job = asked(
        store,
        options["methods"],
        options["profile"],
        options["overrides"] or (),
        _settings(options),
        plugins=options["plugin"] or (),
        only=options["only"],
        isolate=options["isolate"],
        tune_on=options["tune_on"],
        name=options["name"],
    )
    registry = discover([Path(path) for path in job.plugins])
    for name in job.methods:
        registry.get(name)
    registry.demand_settings(validated(Profile, job.profile, f"profile {job.profile_name}"))
    _say(submit("run", store, store.new_id(), [job], [{}], launcher.value, 1).submission)


@app.command(
    "sweep",
    context_settings=PASSED_ON,
    options_metavar="METHOD... [OPTIONS of 'specbench sweep']",
    epilog=examples("specbench submit sweep speculative --over link.rtt_ms=0,20,100 --launcher local"),
)
def sweep(
    context: typer.Context, launcher: LauncherOption = Launcher.slurm, workers: WorkersOption = None
) -> None:
    """Submit a sweep, one job per combination. Takes what 'specbench sweep' does, and the options below."""
    from specbench.benchmark import sweep_record as sweeps
    from specbench.cluster.submitting import submit_sweep
    from specbench.forecast.over import parse_over
    from specbench.profile import load_profile
    from specbench.results.store import RunStore

    options = _parsed(context, "sweep")
    alone = {
        "--resume": "resume",
        "--replay": "replayed",
        "--costs": "costs",
        "--html": "html",
        "--charts": "charts",
        "--json": "as_json",
    }
    demand_alone("submit", {option: options[name] for option, name in alone.items()})
    demand_alone("--launcher slurm" if launcher == Launcher.slurm else "", {"--workers": workers})
    store = RunStore(Path(options["runs_dir"]))
    made = sweeps.new_sweep(
        store,
        options["methods"] or (),
        load_profile(options["profile"], options["overrides"] or (), _settings(options)),
        Path(options["profile"]).stem,
        parse_over(options["over"] or ()),
        overrides=set_beside(options["overrides"], _settings(options)),
        plugins=options["plugin"] or (),
        command=tuple(sys.argv[1:]),
    )
    _say(submit_sweep(made, store, launcher.value, workers or 1).submission)


@app.command("status", epilog=examples("specbench submit status"))
def status(
    submission: SubmissionArgument = None, runs_dir: RunsDirOption = RUNS_DIR, as_json: JsonOption = False
) -> None:
    """Show how far each job of a submission is."""
    from specbench.cluster.jobs import in_words
    from specbench.render import console

    follower = _follower(runs_dir, submission)
    asked, seen = follower.submission, follower.look()
    rows = follower.rows(seen)
    if as_json:
        console.print_json({"submission": asked.submission_id, "launcher": asked.launcher, "points": rows})
        return
    console.out.print(f"{asked.submission_id}, {asked.command}, {asked.launcher}: {in_words(seen)}")
    for index, row in enumerate(rows):
        condition = ", ".join(f"{key}={value}" for key, value in row["condition"].items())
        parts = [f"{index} {row['state']}", f"{row['records']} answers", row["note"], condition]
        console.out.print("  " + "; ".join(filter(None, parts)), markup=False)


@app.command("cancel", epilog=examples("specbench submit cancel"))
def cancel(submission: SubmissionArgument = None, runs_dir: RunsDirOption = RUNS_DIR) -> None:
    """Cancel the jobs of a submission. Finished prompts stay stored."""
    from specbench.render import console

    follower = _follower(runs_dir, submission)
    follower.cancel()
    console.out.print(f"cancelled: {follower.submission.submission_id}")


@app.command("collect", epilog=examples("specbench submit collect --minutes 60"))
def collect(
    submission: SubmissionArgument = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", metavar="N", min=0, help="Longest wait, in minutes (default: none)."),
    ] = None,
    html: HtmlOption = None,
    runs_dir: RunsDirOption = RUNS_DIR,
    as_json: JsonOption = False,
) -> None:
    """Wait for the jobs of a submission, resubmit those that were killed, and show the results."""
    from specbench.cluster.submitting import left_over
    from specbench.render import console

    demand_maps(html, None)
    follower = _follower(runs_dir, submission)
    asked = follower.submission
    demand_alone("a run" if asked.command == "run" else "", {"--html": html})
    try:
        seen = follower.wait(minutes)
    except KeyboardInterrupt:
        console.note(f"the jobs keep running; wait again with 'specbench submit collect {asked.submission_id}'")
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    code = _show(follower, seen, html, as_json)
    if failure := left_over(asked, seen, code):
        raise failure
    if code:
        raise typer.Exit(int(code))


@app.command("pair", hidden=True)
def pair(file: Path) -> None:
    """Inside a job of two nodes: serve on one, run on the other what FILE asks for."""
    from specbench.benchmark.child_process import keep_end
    from specbench.cluster.pair import serve_and_run

    raise typer.Exit(keep_end(file, lambda job: serve_and_run(job, file.parent.resolve())).code)


def _parsed(context: typer.Context, name: str) -> dict[str, Any]:
    """What another command makes of its words, which are refused as it refuses them."""
    command = cast(TyperGroup, context.find_root().command).commands[name]
    with command.make_context(f"specbench submit {name}", list(context.args)) as parsed:
        return parsed.params


def _settings(options: dict[str, Any]) -> dict[str, object]:
    names = ("limit", "max_new_tokens", "prompts", "repeats")
    return workload_settings(*(options[name] for name in names))


def _say(submission: Submission) -> None:
    from specbench.render import console

    count, submission_id = len(submission.points), submission.submission_id
    console.out.print(submission_id)
    jobs = "1 job" if count == 1 else f"{count} jobs"
    console.note(f"{jobs}; wait with 'specbench submit collect {submission_id}'")


def _follower(runs_dir: Path, submission_id: str | None) -> Follower:
    from specbench.cluster.jobs import Follower
    from specbench.cluster.submission import read
    from specbench.results.store import RunStore

    store = RunStore(runs_dir)
    return Follower(read(store, submission_id), store)


def _show(follower: Follower, seen: Sequence[Seen], html: Path | None, as_json: bool) -> ExitCode:
    """What is done, of a sweep by its record, which is up to date: the gravest of what its runs ended with."""
    from specbench.benchmark import sweep_record as sweeps
    from specbench.benchmark.differences import outcome
    from specbench.cli.compare import show
    from specbench.cli.sweep import show as show_sweep
    from specbench.sweeps.rows import swept

    asked, store = follower.submission, follower.store
    if asked.command == "run":
        if seen[0].state != "done":
            return ExitCode.OK
        stored = store.read(asked.points[0].run_id)
        show([stored], as_json)
        return outcome(stored.manifest)
    record = sweeps.read(store, asked.submission_id)
    done = {index: record.runs[index] for index in sorted(record.finished)}
    made = swept(replace(record, runs=done), store)
    show_sweep(made, html, None, as_json)
    return made.code
