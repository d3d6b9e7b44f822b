"""A run in a process of its own: its job in a file, and how it ended in a file beside that."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from specbench.atomic import read_record, write_json
from specbench.benchmark.job import JOB_VERSION, Job
from specbench.errors import CloudLostError, ExitCode, StoreError, described
from specbench.interpreter import module_command

JOB = "job.json"
CLOSING_S = 30.0  # for a run to end by itself when Ctrl-C reached it too


@dataclass(frozen=True)
class Ended:
    """How the process of a job ended; there is no such record where it was killed.

    Args:
        state: `done` when the run came to its end, `interrupted` when it can go on, `failed` when it would fail
            again.
        code: exit status; of a run that is done, what its results must not be read without.
        error: what failed, in one sentence; `None` for a run that is done.
    """

    state: Literal["done", "interrupted", "failed"]
    code: int
    error: str | None = None
    hint: str | None = None
    schema_version: int = JOB_VERSION


def start(job: Job, file: Path, stderr: int | None = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """Write the job into a file, and start the process that makes it."""
    write_json(file, job)
    return subprocess.Popen(
        command_of(file), stdout=subprocess.DEVNULL, stderr=stderr, text=True, errors="replace"
    )


def run_to_end(job: Job, file: Path, stderr: int | None = subprocess.DEVNULL) -> Ended:
    """Start the process of a job and wait for it; it does not outlive the waiting."""
    with start(job, file, stderr) as process:
        try:
            process.wait()
        except BaseException:
            process.kill()
            raise
    return end_of(file, process.returncode)


def let_end(process: subprocess.Popen) -> None:
    """Wait until a run that was interrupted too has stored its manifest; ask it, if Ctrl-C came here alone."""
    try:
        process.wait(CLOSING_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        process.wait()


def end_of(file: Path, status: int) -> Ended:
    """How a process ended that has ended: as it says, or by its exit status where it could not."""
    code = status if status >= 0 else 128 - status
    return read_ended(file) or Ended(
        "interrupted", code, f"its process ended with status {code} without a reason"
    )


def keep_end(file: Path, make: Callable[[Job], Ended]) -> Ended:
    """Do what a job's file asks for, and write beside it how that ended: the whole of a child process.

    Raises:
        SpecbenchError: what is written down as the reason.
        KeyboardInterrupt: passed on once that is written down.
    """
    job = read_job(file)
    try:
        ended = make(job)
    except KeyboardInterrupt:
        write_json(beside(file), Ended("interrupted", ExitCode.INTERRUPTED))
        raise
    except Exception as error:
        told = described(error)
        ended = Ended("failed", told.exit_code, told.message, told.hint)
        lost = isinstance(error, CloudLostError) and job.run_id in job.store.ids()
        if lost or told.exit_code > 128:
            ended = replace(ended, state="interrupted")
        write_json(beside(file), ended)
        raise
    write_json(beside(file), ended)
    return ended


def beside(file: Path) -> Path:
    """Where the end of a job's file is written down."""
    return file.with_suffix(".ended.json")


def command_of(file: Path) -> list[str]:
    """The command that makes the run of a job's file."""
    return module_command("specbench", "job", str(file))


def read_job(file: Path) -> Job:
    """The job of a file.

    Raises:
        SpecbenchError: there is none, it is damaged, or another version wrote it.
    """
    try:
        return read_record(file, Job, JOB_VERSION)
    except OSError as error:
        raise StoreError(f"job {file} cannot be read: {error.strerror}") from error


def read_ended(file: Path) -> Ended | None:
    """How the job of a file ended; `None` where it goes on, has not begun or was killed.

    Raises:
        SpecbenchError: that record is damaged.
    """
    try:
        os.listdir(file.parent)  # opening a folder has NFS look at it anew; it remembers what was not there
        return read_record(beside(file), Ended, JOB_VERSION)
    except OSError:
        return None
