"""Submissions on disk: a record beside the runs, and a folder for each point."""

from __future__ import annotations

import fcntl
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from specbench.atomic import read_record, write_json
from specbench.benchmark import child_process
from specbench.benchmark.job import Job
from specbench.cluster.pair import demand_for_two_nodes
from specbench.errors import SpecbenchError, StoreError, nearest
from specbench.interpreter import module_command
from specbench.profile import ClusterSpec, Profile
from specbench.results.store import RunStore

SUBMISSION_VERSION = 2
FOLDER = "submissions"
RECORD = "submission.json"
PENDING, RUNNING = "pending", "running"  # files of a point: no job of it has begun; locked by the one that runs

CONFLICT = 75  # EX_TEMPFAIL of sysexits.h


@dataclass(frozen=True)
class Handed:
    """One job of a point, as the launcher knows it; `records` were stored when it was submitted."""

    job_id: str
    records: int


@dataclass(frozen=True)
class Point:
    """One run, whose methods are interleaved in one job, on one machine.

    Args:
        condition: what the sweep varies; nothing for a run.
        jobs: all that were submitted for it; the last one counts.
    """

    run_id: str
    condition: dict[str, object]
    jobs: tuple[Handed, ...] = ()


@dataclass(frozen=True)
class Submission:
    """What was submitted, and its jobs.

    Args:
        command: what was submitted, `run` or `sweep`; a sweep of the same id is on record.
        workers: how many points the local launcher runs at a time.
        cluster: the profile's part of that name.
        cancelled: nothing is submitted again.
    """

    submission_id: str
    command: Literal["run", "sweep"]
    launcher: Literal["local", "slurm"]
    points: tuple[Point, ...]
    workers: int = 1
    cluster: dict[str, object] | None = None
    cancelled: bool = False
    schema_version: int = SUBMISSION_VERSION

    @property
    def spec(self) -> ClusterSpec:
        """What the scheduler is asked for."""
        return ClusterSpec.model_validate(self.cluster or {})

    def with_point(self, index: int, point: Point) -> Submission:
        """The same, with another point in that place."""
        return replace(self, points=(*self.points[:index], point, *self.points[index + 1 :]))


def new_submission(
    command: Literal["run", "sweep"],
    submission_id: str,
    launcher: Literal["local", "slurm"],
    profiles: Sequence[Profile],
    conditions: Sequence[dict[str, object]],
    workers: int,
) -> Submission:
    """A new submission, with a point for each profile.

    Raises:
        SpecbenchError: the launcher cannot give what the profiles' `cluster:` says.
    """
    cluster = profiles[0].cluster
    if cluster.cloud and launcher == "local":
        raise SpecbenchError(
            "cluster.cloud asks for a second node, but --launcher local has one machine",
            "add --set cluster.cloud=null, or use --launcher slurm",
        )
    for profile in profiles:
        demand_for_two_nodes(profile)
    width = len(str(len(conditions)))
    points = tuple(
        Point(f"{submission_id}-{index:0{width}}", condition) for index, condition in enumerate(conditions)
    )
    return Submission(submission_id, command, launcher, points, workers, cluster.model_dump(mode="json"))


def folder_of(store: RunStore, submission_id: str) -> Path:
    """Where a submission's files lie, readable for this user only."""
    return store.folder.absolute() / FOLDER / submission_id


def job_of(store: RunStore, submission_id: str, index: int) -> Path:
    """The file of a point's job."""
    return folder_of(store, submission_id) / str(index) / child_process.JOB


def prepare(store: RunStore, submission: Submission, asked: Sequence[Job]) -> None:
    """Write the record, and for every point its job and the script that makes it.

    Raises:
        SpecbenchError: the folder cannot be written.
    """
    folder = folder_of(store, submission.submission_id)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        for index, (job, point) in enumerate(zip(asked, submission.points, strict=True)):
            file = job_of(store, submission.submission_id, index)
            file.parent.mkdir()
            write_json(file, replace(job, run_id=point.run_id, whole_prompts=True))
            script = _script(file, needs_two_nodes=submission.spec.cloud is not None)
            file.with_name("job.sh").write_text(script, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror}") from error
    write(store, submission)


def _script(file: Path, needs_two_nodes: bool) -> str:
    """A job is a command that may be run again: it goes on with the run that it finds."""
    words = child_process.command_of(file)
    if needs_two_nodes:
        words = module_command("specbench", "submit", "pair", str(file))
    pending, running, log = (shlex.quote(str(file.with_name(name))) for name in (PENDING, RUNNING, "log"))
    return (
        "#!/bin/sh\n"
        f"exec 9> {running} || exit\n"
        f"flock -n -E {CONFLICT} 9\n"
        f"[ $? -ne {CONFLICT} ] || exit\n"  # another job of this point: how that ends counts
        f"rm -f {pending}\n"
        f"{shlex.join(words)} >> {log} 2>&1\n"
    )


def is_running(store: RunStore, submission: Submission, index: int) -> bool:
    """Whether a job of the point runs, which its launcher may not know: sbatch can fail and have queued it."""
    path = folder_of(store, submission.submission_id) / str(index) / RUNNING
    if not path.exists():
        return False
    with path.open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            pass  # a file system without locks
    return False


def exists(store: RunStore, submission_id: str) -> bool:
    """Whether there is a submission of that id."""
    return (folder_of(store, submission_id) / RECORD).is_file()


def write(store: RunStore, submission: Submission) -> None:
    """Replace the record in one step.

    Raises:
        SpecbenchError: the folder cannot be written.
    """
    write_json(folder_of(store, submission.submission_id) / RECORD, submission)


def read(store: RunStore, submission_id: str | None) -> Submission:
    """The submission of that id, or the newest one.

    Raises:
        SpecbenchError: there is none, its record is damaged, or another version wrote it.
    """
    ids = sorted(path.parent.name for path in (store.folder / FOLDER).glob(f"*/{RECORD}"))
    if not ids:
        raise StoreError(
            f"nothing was submitted to {store.folder}",
            "'specbench submit run' and 'specbench submit sweep' do; --runs-dir names another folder",
        )
    if submission_id is not None and submission_id not in ids:
        raise StoreError(
            f"there is no submission '{submission_id}' in {store.folder}", nearest(submission_id, ids[-20:])
        )
    return read_record(folder_of(store, submission_id or ids[-1]) / RECORD, Submission, SUBMISSION_VERSION)
