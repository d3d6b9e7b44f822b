"""What was handed to a launcher: a file beside the runs, and a folder for every point of the grid."""

from __future__ import annotations

import fcntl
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from specbench.atomic import write_json
from specbench.bench.store import RunStore
from specbench.cluster.pair import demand_for_two_nodes
from specbench.config import ClusterSpec, Profile
from specbench.config.paths import anchored
from specbench.config.yaml_text import as_text
from specbench.errors import ExitCode, SpecbenchError, nearest

SUBMISSION_VERSION = 1
FOLDER = "submissions"
RECORD = "submission.json"
PENDING, RUNNING = "pending", "running"  # files of a point: no job of it has begun; locked by the one that runs

CONFLICT = 75  # EX_TEMPFAIL of sysexits.h


@dataclass(frozen=True)
class Job:
    """One job of a point; `records` is how many generations were stored when it was submitted."""

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
    jobs: tuple[Job, ...] = ()


@dataclass(frozen=True)
class Submission:
    """What is asked, and the jobs that were made of it.

    Args:
        command: what was submitted, `run` or `sweep`; a sweep of the same id is on record.
        place: the folder in which the command was typed, from which relative paths count.
        words: the command line of every point, but for its profile and its id.
        workers: how many points the local launcher runs at a time.
        cluster: the profile's part of that name.
        cancelled: nothing is submitted again.
    """

    submission_id: str
    command: Literal["run", "sweep"]
    launcher: Literal["local", "slurm"]
    place: str
    words: tuple[str, ...]
    profile_name: str
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
    words: Sequence[str],
    profile_name: str,
    profiles: Sequence[Profile],
    conditions: Sequence[dict[str, object]],
    workers: int,
) -> Submission:
    """What is asked, from here, with a point for each profile.

    Raises:
        SpecbenchError: the launcher cannot give what the profiles' `cluster:` says.
    """
    cluster = profiles[0].cluster
    if cluster.cloud and launcher == "local":
        raise SpecbenchError(
            "cluster.cloud asks for a second node, and --launcher local has one machine",
            "add --set cluster.cloud=null, or use --launcher slurm",
        )
    for profile in profiles:
        demand_for_two_nodes(profile)
    width = len(str(len(conditions)))
    points = tuple(
        Point(f"{submission_id}-{index:0{width}}", condition) for index, condition in enumerate(conditions)
    )
    return Submission(
        submission_id, command, launcher, os.getcwd(), tuple(words), profile_name, points, workers,
        cluster.model_dump(mode="json"),
    )  # fmt: skip


def folder_of(store: RunStore, submission_id: str) -> Path:
    """Where a submission's files lie, readable for this user only."""
    return store.folder.absolute() / FOLDER / submission_id


def prepare(store: RunStore, submission: Submission, profiles: list[Profile]) -> None:
    """Write the record, and for every point its profile as it is now and the script that is its job.

    Raises:
        SpecbenchError: the folder cannot be written.
    """
    folder = folder_of(store, submission.submission_id)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        for index, profile in enumerate(profiles):
            (folder / str(index)).mkdir()
            path = folder / str(index) / f"{submission.profile_name}.yaml"
            path.write_text(as_text(anchored(profile.model_dump(mode="json"))), encoding="utf-8")
            script = _script(store, submission, index, path)
            (folder / str(index) / "job.sh").write_text(script, encoding="utf-8")
    except OSError as error:
        raise SpecbenchError(f"{folder} cannot be written: {error.strerror}", None, ExitCode.STORE) from error
    write(store, submission)


def _script(store: RunStore, submission: Submission, index: int, profile: Path) -> str:
    """A job is a command that may be run again: it goes on with the run that it finds."""
    words = [*submission.words, "--profile", str(profile), "--runs-dir", str(store.folder.absolute())]
    words += ["--as", submission.points[index].run_id]
    if submission.spec.cloud:
        words = ["submit", "pair", str(profile), "--", *words]
    pending, running, log, code = (
        shlex.quote(str(profile.parent / name)) for name in (PENDING, RUNNING, "log", "code")
    )
    return (
        "#!/bin/sh\n"
        f"exec 9> {running} || exit\n"
        f"flock -n -E {CONFLICT} 9\n"
        f"[ $? -ne {CONFLICT} ] || exit\n"  # another job of this point: its code counts
        f"rm -f {pending}\n"
        f"cd {shlex.quote(submission.place)} || exit\n"
        f"{shlex.join([sys.executable, '-m', 'specbench', *words])} >> {log} 2>&1\n"
        f"echo $? > {code}\n"
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


def exit_code(store: RunStore, submission: Submission, index: int) -> int | None:
    """What the point's last job ended with; `None` where it did not live to say so."""
    path = folder_of(store, submission.submission_id) / str(index) / "code"
    try:
        os.listdir(path.parent)  # opening a folder has NFS look at it anew; it remembers what was not there
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def last_words(store: RunStore, submission: Submission, index: int) -> str | None:
    """The error that the point's log ends with."""
    path = folder_of(store, submission.submission_id) / str(index) / "log"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    errors = [line for line in lines if line.startswith("error: ")]
    return next(reversed(errors or lines), None)


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
        raise SpecbenchError(
            f"nothing was submitted to {store.folder}",
            "'specbench submit run' and 'specbench submit sweep' do; --runs-dir names another folder",
            ExitCode.STORE,
        )
    if submission_id is not None and submission_id not in ids:
        raise SpecbenchError(
            f"there is no submission '{submission_id}' in {store.folder}",
            nearest(submission_id, ids[-20:]),
            ExitCode.STORE,
        )
    path = folder_of(store, submission_id or ids[-1]) / RECORD
    try:
        version = msgspec.json.decode(path.read_bytes(), type=dict).get("schema_version")
        if version != SUBMISSION_VERSION:
            raise SpecbenchError(
                f"{path} has schema version {version}; this specbench reads {SUBMISSION_VERSION}",
                "use the specbench that submitted it, or submit again",
                ExitCode.STORE,
            )
        return msgspec.json.decode(path.read_bytes(), type=Submission)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SpecbenchError(f"{path} is damaged: {error}", None, ExitCode.STORE) from error
