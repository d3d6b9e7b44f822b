"""`specbench submit`: runs and sweeps as jobs, on this machine or on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from specbench.cli.options import (
    RUNS_DIR,
    HtmlOption,
    JsonOption,
    RunsDirOption,
    demand_alone,
    demand_maps,
    demand_methods,
    show_help,
)
from specbench.errors import ExitCode, SpecbenchError

if TYPE_CHECKING:
    from specbench.bench.store import RunStore
    from specbench.cluster.jobs import Follower, Seen

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    help="Runs and sweeps as jobs, on this machine or on a cluster.",
    callback=show_help,
    invoke_without_command=True,
)


class Launcher(str, Enum):
    """Who runs the jobs."""

    local = "local"
    slurm = "slurm"


LauncherOption = Annotated[Launcher, typer.Option(help="Who runs the jobs: this machine, or Slurm.")]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="With --launcher local: points at a time; 1 if absent.")
]
SubmissionArgument = Annotated[
    str | None, typer.Argument(metavar="SUBMISSION", help="Its id; the newest if absent.")
]


@app.command("run", context_settings=PASSED_ON, options_metavar="METHOD... [OPTIONS of 'specbench run']")
def run(context: typer.Context, launcher: LauncherOption = Launcher.slurm) -> None:
    """Submit one run as one job: METHODS and options as 'specbench run --help' shows them, and those below."""
    from specbench.bench.store import RunStore
    from specbench.cli.run import workload_settings

    asked = _parsed("run", context.args)
    demand_alone("submit", {"--resume": asked["resume"], "--json": asked["as_json"], "--as": asked["as_run"]})
    store = RunStore(Path(asked["runs_dir"]))
    words = ["run", *_methods(asked)]
    words += [f"--{flag}" for flag in ("only", "isolate") if asked[flag]]
    words += ["--tune-on", asked["tune_on"]] if asked["tune_on"] else []
    _submit("run", store, store.new_id(), asked, words, [{}], workload_settings(asked), launcher, None)


@app.command("sweep", context_settings=PASSED_ON, options_metavar="METHOD... [OPTIONS of 'specbench sweep']")
def sweep(
    context: typer.Context, launcher: LauncherOption = Launcher.slurm, workers: WorkersOption = None
) -> None:
    """Submit a sweep: METHODS and options as 'specbench sweep --help' shows them, and those below.

    Every combination is one job, with all methods in it.
    """
    from specbench.analysis.over import parse_over
    from specbench.bench import sweep as sweeps
    from specbench.bench.store import RunStore

    asked = _parsed("sweep", context.args)
    alone = {
        "--resume": "resume",
        "--replay": "replayed",
        "--costs": "costs",
        "--html": "html",
        "--charts": "charts",
        "--json": "as_json",
    }
    demand_alone("submit", {option: asked[name] for option, name in alone.items()})
    demand_alone("--launcher slurm" if launcher == Launcher.slurm else "", {"--workers": workers})
    over = parse_over(asked["over"] or ())
    if not asked["methods"] or not over:
        raise SpecbenchError(
            "a sweep needs methods, and a key to vary",
            "for example 'specbench submit sweep speculative --over speculative.draft_length=1..8'",
        )
    methods = _methods(asked)
    store = RunStore(Path(asked["runs_dir"]))
    plugins = tuple(str(path) for path in asked["plugin"] or ())
    made = sweeps.new_sweep(
        store, tuple(methods), asked["profile"], tuple(asked["overrides"] or ()), over, plugins
    )
    words = ["run", *methods, "--json"]
    try:
        _submit("sweep", store, made.sweep_id, asked, words, made.conditions, {}, launcher, workers)
    except SpecbenchError:
        sweeps.remove(store, made.sweep_id)
        raise


@app.command("status")
def status(
    submission: SubmissionArgument = None, runs_dir: RunsDirOption = RUNS_DIR, as_json: JsonOption = False
) -> None:
    """How far every point of a submission is."""
    from specbench.cluster.jobs import in_words
    from specbench.render import console

    follower = _follower(runs_dir, submission)
    asked, seen = follower.submission, follower.look()
    rows = [
        {
            "run": point.run_id,
            "condition": point.condition,
            "jobs": [job.job_id for job in point.jobs],
            **asdict(each),
        }
        for point, each in zip(asked.points, seen, strict=True)
    ]
    if as_json:
        console.print_json({"submission": asked.submission_id, "launcher": asked.launcher, "points": rows})
        return
    console.out.print(f"{asked.submission_id}, {asked.command}, {asked.launcher}: {in_words(seen)}")
    for index, row in enumerate(rows):
        parts = [f"{index} {row['state']}", f"{row['records']} answers", *filter(None, [row["note"]])]
        parts += (
            [", ".join(f"{key}={value}" for key, value in row["condition"].items())] if row["condition"] else []
        )
        console.out.print("  " + "; ".join(parts), markup=False)


@app.command("cancel")
def cancel(submission: SubmissionArgument = None, runs_dir: RunsDirOption = RUNS_DIR) -> None:
    """End a submission's jobs; what they have stored is kept."""
    from specbench.render import console

    follower = _follower(runs_dir, submission)
    follower.cancel()
    console.out.print(f"cancelled: {follower.submission.submission_id}")


@app.command("collect")
def collect(
    submission: SubmissionArgument = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Give up waiting after so long.")] = None,
    html: HtmlOption = None,
    runs_dir: RunsDirOption = RUNS_DIR,
    as_json: JsonOption = False,
) -> None:
    """Wait for a submission's jobs, submit those that were killed again, and show what was measured."""
    from specbench.render import console

    demand_maps(html, None)
    follower = _follower(runs_dir, submission)
    asked = follower.submission
    demand_alone("a run" if asked.command == "run" else "", {"--html": html})
    try:
        seen = follower.wait(console.note, minutes)
    except KeyboardInterrupt:
        console.note(f"the jobs go on; 'specbench submit collect {asked.submission_id}' waits for them")
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    code = _show(follower, seen, html, as_json)
    left = {index: each for index, each in enumerate(seen) if each.state != "done"}
    if left:
        index, first = next(iter(left.items()))
        raise SpecbenchError(
            f"{len(left)} of {len(seen)} points did not come to their end; point {index} {first.state}"
            + (f": {first.note.removeprefix('error: ')}" if first.note else ""),
            f"'specbench submit status {asked.submission_id}' names them all, and what is stored is kept",
            code or ExitCode.RUN,
        )
    if code:
        raise typer.Exit(int(code))


@app.command("pair", hidden=True, context_settings=PASSED_ON)
def pair(context: typer.Context, profile: Path) -> None:
    """Inside a job of two nodes: serve on one, run on the other."""
    from specbench.cluster.pair import serve_and_run

    raise typer.Exit(serve_and_run(profile, context.args))


def _parsed(name: str, words: Sequence[str]) -> dict[str, Any]:
    """What another command makes of its words, which are refused as it refuses them."""
    from specbench.cli import app as root

    command = typer.main.get_command(root).commands[name]
    with command.make_context(f"specbench submit {name}", list(words)) as context:
        return context.params


def _methods(asked: dict[str, Any]) -> list[str]:
    from specbench.registry import discover

    registry = discover([Path(path) for path in asked["plugin"] or ()])
    return [registry.get(name).name for name in demand_methods(asked["methods"])]


def _submit(
    command: Literal["run", "sweep"],
    store: RunStore,
    submission_id: str,
    asked: dict[str, Any],
    words: list[str],
    conditions: list[dict[str, object]],
    settings: dict[str, object],
    launcher: Launcher,
    workers: int | None,
) -> None:
    """Freeze the profile of every point, and hand all to the launcher."""
    from specbench.cluster.jobs import Follower
    from specbench.cluster.submission import new_submission
    from specbench.config import load_profile
    from specbench.render import console

    name, overrides = asked["profile"], asked["overrides"] or ()
    profiles = [load_profile(name, overrides, {**settings, **condition}) for condition in conditions]
    for path in asked["plugin"] or ():
        words += ["--plugin", str(path)]
    submission = new_submission(
        command, submission_id, launcher.value, words, Path(name).stem, profiles, conditions, workers or 1
    )
    Follower(submission, store).submit(profiles)
    console.out.print(submission_id)
    console.note(f"{len(conditions)} jobs; 'specbench submit collect {submission_id}' waits for them")


def _follower(runs_dir: Path, submission_id: str | None) -> Follower:
    from specbench.bench.store import RunStore
    from specbench.cluster.jobs import Follower
    from specbench.cluster.submission import read

    store = RunStore(runs_dir)
    return Follower(read(store, submission_id), store)


def _show(follower: Follower, seen: Sequence[Seen], html: Path | None, as_json: bool) -> ExitCode:
    """What is done, of a sweep by its record, which is up to date: the gravest of what its runs ended with."""
    from specbench.bench import sweep as sweeps
    from specbench.bench.manifest import outcome
    from specbench.cli.compare import show
    from specbench.cli.sweep import show as show_sweep

    asked, store = follower.submission, follower.store
    if asked.command == "run":
        if seen[0].state != "done":
            return ExitCode.OK
        stored = store.read(asked.points[0].run_id)
        show([stored], as_json)
        return outcome(stored.manifest)
    record = sweeps.read(store, asked.submission_id)
    done = {index: record.runs[index] for index in sorted(record.finished)}
    return show_sweep(replace(record, runs=done), store, html, None, as_json)
