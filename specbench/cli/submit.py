"""`specbench submit`: runs and sweeps as jobs, on this machine or on a cluster."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from specbench.cli import options
from specbench.cli.app import App
from specbench.cli.options import RUNS_DIR, argument, examples, option
from specbench.errors import ExitCode

if TYPE_CHECKING:
    from specbench.cluster.jobs import Follower

ALONE = {
    **{f"--{name}": name for name in ("resume", "html", "charts")},
    **{"--replay": "replayed", "--costs": "costs", "--json": "as_json"},
    **{"--chart-width-mm": "chart_width_mm", "--methods": "drawn"},
}
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

app = App(
    help="Run and sweep as jobs of Slurm or of this machine.",
    epilog=examples("specbench submit run speculative", "specbench submit collect"),
    callback=options.show_help,
)


class Launcher(str, Enum):
    """Who runs the jobs."""

    local = "local"
    slurm = "slurm"


LauncherOption = Annotated[Launcher, option("--launcher", "What runs the jobs: this machine or Slurm.")]
WorkersOption = Annotated[
    int | None, option("--workers", "Jobs at a time with --launcher local (default: 1).", "N", min=1)
]
SubmissionArgument = Annotated[
    str | None, argument("SUBMISSION", "Id of the submission (default: the newest).")
]


@app.command(
    "run",
    context_settings=PASSED_ON,
    options_metavar="METHOD... [OPTIONS of 'specbench run']",
    epilog=examples("specbench submit run speculative --profile standard --launcher slurm"),
)
def run(context: typer.Context, launcher: LauncherOption = Launcher.slurm) -> None:
    """Submit one run as a job. Takes the methods and options of 'specbench run', and those below."""
    from specbench.benchmark.job import loaded_profile, new_job
    from specbench.cluster.submitting import submit_run
    from specbench.results.store import RunStore

    given = _parsed(context, "run")
    options.demand_alone("submit", {"--resume": given["resume"], "--json": given["as_json"]})
    store = RunStore(Path(given["runs_dir"]))
    job = new_job(
        store,
        *loaded_profile(given["profile"], given["overrides"] or (), _settings(given)),
        given["methods"],
        plugins=given["plugin"] or (),
        command=sys.argv[1:],
        **{name: given[name] for name in ("only", "isolate", "tune_on", "name")},
    )
    _say(submit_run(job, store, launcher.value))


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
    from specbench.benchmark.job import loaded_profile
    from specbench.benchmark.sweep_record import new_sweep
    from specbench.cluster.submitting import submit_sweep
    from specbench.forecast.over import parse_over
    from specbench.results.store import RunStore

    given = _parsed(context, "sweep")
    options.demand_alone("submit", {option: given[name] for option, name in ALONE.items()})
    options.demand_alone("--launcher slurm" if launcher == Launcher.slurm else "", {"--workers": workers})
    store = RunStore(Path(given["runs_dir"]))
    made = new_sweep(
        store,
        given["methods"] or (),
        *loaded_profile(given["profile"], given["overrides"] or (), _settings(given)),
        parse_over(given["over"] or ()),
        overrides=options.set_beside(given["overrides"], _settings(given)),
        plugins=given["plugin"] or (),
        command=tuple(sys.argv[1:]),
    )
    _say(submit_sweep(made, store, launcher.value, workers or 1))


@app.command("status", epilog=examples("specbench submit status"))
def status(
    submission: SubmissionArgument = None,
    runs_dir: options.RunsDirOption = RUNS_DIR,
    as_json: options.JsonOption = False,
) -> None:
    """Show how far each job of a submission is."""
    from specbench.render import console

    follower = _follower(runs_dir, submission)
    asked, seen = follower.submission, follower.look()
    if as_json:
        rows = follower.rows(seen)
        console.print_json({"submission": asked.submission_id, "launcher": asked.launcher, "points": rows})
        return
    for line in follower.lines(seen):
        console.out.print(line, markup=False)


@app.command("cancel", epilog=examples("specbench submit cancel"))
def cancel(submission: SubmissionArgument = None, runs_dir: options.RunsDirOption = RUNS_DIR) -> None:
    """Cancel the jobs of a submission. Finished prompts stay stored."""
    from specbench.render import console

    follower = _follower(runs_dir, submission)
    follower.cancel()
    console.out.print(f"cancelled: {follower.submission.submission_id}")


@app.command("collect", epilog=examples("specbench submit collect --minutes 60"))
def collect(
    submission: SubmissionArgument = None,
    minutes: Annotated[
        float | None, option("--minutes", "Longest wait, in minutes (default: none).", "N", min=0)
    ] = None,
    html: options.HtmlOption = None,
    runs_dir: options.RunsDirOption = RUNS_DIR,
    as_json: options.JsonOption = False,
) -> None:
    """Wait for the jobs of a submission, resubmit those that were killed, and show the results."""
    from specbench.cluster.submitting import left_over
    from specbench.render import console
    from specbench.render.report.output import Wanted
    from specbench.render.showing import show_submission

    wanted = Wanted(html)
    wanted.demand()
    follower = _follower(runs_dir, submission)
    asked = follower.submission
    options.demand_alone("a run" if asked.command == "run" else "", {"--html": html})
    try:
        seen = follower.wait(minutes)
    except KeyboardInterrupt:
        console.note(f"the jobs keep running; wait again with 'specbench submit collect {asked.submission_id}'")
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    code = show_submission(follower, seen, wanted, as_json)
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


def _settings(given: dict[str, Any]) -> dict[str, object]:
    limit, most, prompts, repeats = (given[name] for name in ("limit", "max_new_tokens", "prompts", "repeats"))
    return options.workload_settings(limit, most, prompts, repeats, given.get("restarts"))


def _say(follower: Follower) -> None:
    from specbench.render import console

    count, submission_id = len(follower.submission.points), follower.submission.submission_id
    console.out.print(submission_id)
    jobs = "1 job" if count == 1 else f"{count} jobs"
    console.note(f"{jobs}; wait with 'specbench submit collect {submission_id}'")


def _follower(runs_dir: Path, submission_id: str | None) -> Follower:
    from specbench.cluster.jobs import Follower
    from specbench.cluster.submission import read
    from specbench.results.store import RunStore

    store = RunStore(runs_dir)
    return Follower(read(store, submission_id), store)
