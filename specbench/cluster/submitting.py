"""Handing runs and sweeps to a launcher, and checking what did not finish."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from specbench.benchmark import sweep_record as sweeps
from specbench.benchmark.job import Job
from specbench.benchmark.sweep_record import Sweep
from specbench.cluster import submission as submissions
from specbench.cluster.jobs import UNDER_WAY, Follower, Seen, in_words
from specbench.cluster.submission import Submission
from specbench.errors import ExitCode, RunError, SpecbenchError
from specbench.profile import Profile
from specbench.profile.loading import validated
from specbench.registry import discover
from specbench.results.store import RunStore


def submit(
    command: Literal["run", "sweep"],
    store: RunStore,
    submission_id: str,
    asked: Sequence[Job],
    conditions: Sequence[dict[str, object]],
    launcher: Literal["local", "slurm"],
    workers: int,
) -> Follower:
    """Hand jobs to a launcher, each the run of a condition.

    Args:
        workers: how many the local launcher runs at a time.

    Raises:
        SpecbenchError: it is refused; then nothing is left of it.
    """
    profiles = [validated(Profile, job.profile, f"profile {job.profile_name}") for job in asked]
    made = submissions.new_submission(command, submission_id, launcher, profiles, conditions, workers)
    follower = Follower(made, store)
    follower.submit(asked)
    return follower


def submit_run(asked: Job, store: RunStore, launcher: Literal["local", "slurm"]) -> Follower:
    """Hand one run to a launcher.

    Raises:
        SpecbenchError: a method or the profile is not valid here, or it is refused.
    """
    registry = discover([Path(path) for path in asked.plugins])
    for name in asked.methods:
        registry.get(name)
    registry.demand_settings(validated(Profile, asked.profile, f"profile {asked.profile_name}"))
    return submit("run", store, store.new_id(), [asked], [{}], launcher, 1)


def submit_sweep(asked: Sweep, store: RunStore, launcher: Literal["local", "slurm"], workers: int) -> Follower:
    """Hand every condition of a sweep to a launcher; of one that is refused nothing is left.

    Raises:
        SpecbenchError: it is refused.
    """
    try:
        points = [asked.job(store, index) for index in range(len(asked.conditions))]
        return submit("sweep", store, asked.sweep_id, points, asked.conditions, launcher, workers)
    except SpecbenchError:
        sweeps.remove(store, asked.sweep_id)
        raise


def left_over(asked: Submission, seen: Sequence[Seen], code: ExitCode) -> SpecbenchError | None:
    """The points that did not come to their end, where there are such.

    Args:
        code: what the others ended with.
    """
    left = {index: each for index, each in enumerate(seen) if each.state != "done"}
    if not left:
        return None
    index, first = next(iter(left.items()))
    return SpecbenchError(
        f"{len(left)} of {len(seen)} jobs did not finish; job {index} {first.state}"
        + (f": {first.note}" if first.note else ""),
        f"'specbench submit status {asked.submission_id}' lists them all; finished prompts are kept",
        code or ExitCode.RUN,
    )


def demand_over(store: RunStore, sweep_id: str) -> None:
    """Refuse to resume a sweep here while its jobs run; update the record of a submitted sweep.

    Raises:
        SpecbenchError: they do, or the scheduler cannot be asked.
    """
    if not submissions.exists(store, sweep_id):
        return
    follower = Follower(submissions.read(store, sweep_id), store)
    seen = follower.look()
    if any(each.state in (*UNDER_WAY, "lost") for each in seen):
        raise RunError(
            f"sweep {sweep_id} is still running: {in_words(seen)}",
            f"'specbench submit collect {sweep_id}' waits for its jobs, 'specbench submit cancel' ends them",
        )
    follower.record(seen)
