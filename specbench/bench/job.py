"""A run that is asked for, in a file for the process that makes it; and how that ended, in a file beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from specbench import environment
from specbench.bench.store import RunStore
from specbench.config import Profile, load_profile
from specbench.config.loading import validated, with_changes
from specbench.config.paths import anchored
from specbench.errors import CloudLostError, ExitCode, SpecbenchError, described

JOB = "job.json"
JOB_VERSION = 1
Record = TypeVar("Record")


@dataclass(frozen=True)
class Job:
    """All that a process needs to make one run, in whatever folder it works. A run that exists goes on.

    Args:
        profile: the resolved profile, its paths absolute.
        methods: as they were asked for; the control is added unless `only`.
        plugins: files of methods, absolute.
        whole_prompts: a run that goes on drops its last prompt unless all methods have answered it, so that no
            two answers to one prompt come from two machines.
        command: the command line that asked for it, for the reader.
    """

    run_id: str
    runs_dir: str
    profile_name: str
    profile: dict
    methods: tuple[str, ...]
    plugins: tuple[str, ...] = ()
    only: bool = False
    isolate: bool = False
    tune_on: str | None = None
    whole_prompts: bool = False
    command: tuple[str, ...] = ()
    schema_version: int = JOB_VERSION

    @property
    def store(self) -> RunStore:
        """The folder of runs that gets this one."""
        return RunStore(Path(self.runs_dir))


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


def new_job(
    store: RunStore,
    profile: Profile,
    profile_name: str,
    methods: Sequence[str] | None,
    *,
    plugins: Sequence[str | Path] = (),
    only: bool = False,
    isolate: bool = False,
    tune_on: str | None = None,
    resume: str | None = None,
    command: Sequence[str] = (),
) -> Job:
    """A job from here: paths become absolute.

    Args:
        resume: the id of the run that it goes on with.

    Raises:
        SpecbenchError: no method is named, or there is no run to go on with.
    """
    if not methods:
        raise SpecbenchError(
            "missing argument 'METHOD'", "such as speculative; 'specbench plugins' lists them all"
        )
    return Job(
        run_id=store.find(resume) if resume else store.new_id(),
        runs_dir=str(store.folder.absolute()),
        profile_name=profile_name,
        profile=anchored(profile.model_dump(mode="json")),
        methods=tuple(methods),
        plugins=absolute(plugins),
        only=only,
        isolate=isolate,
        tune_on=tune_on,
        command=tuple(environment.encodable(word) for word in command),
    )


def resumed_job(
    store: RunStore,
    run_id: str,
    *,
    overrides: Sequence[str] = (),
    settings: dict[str, object] | None = None,
    plugins: Sequence[str | Path] = (),
    isolate: bool = False,
    tune_on: str | None = None,
    command: Sequence[str] = (),
) -> Job:
    """The job that a stored run was, to go on with it; overrides and settings come on top of its profile.

    Raises:
        SpecbenchError: there is no such run, or its manifest or a change is no valid profile.
    """
    manifest = store.read(store.find(run_id)).manifest
    profile = validated(Profile, manifest.profile, f"the profile of run {manifest.run_id}")
    tuned_on = manifest.tuning.on if manifest.tuning else None
    return new_job(
        store,
        with_changes(profile, overrides, settings),
        manifest.profile_name,
        manifest.methods,
        plugins=(*manifest.plugin_files, *plugins),
        only=True,  # the control is among its methods, or was left out
        isolate=isolate,
        tune_on=tune_on or tuned_on,
        resume=manifest.run_id,
        command=command,
    )


def loaded_profile(profile: Profile | str | Path) -> tuple[Profile, str]:
    """A profile that may be named or lie in a file, and what tables call it.

    Raises:
        SpecbenchError: there is none of that name, or it is not valid.
    """
    if isinstance(profile, Profile):
        return profile, "custom"
    return load_profile(str(profile)), Path(profile).stem


def absolute(plugins: Sequence[str | Path]) -> tuple[str, ...]:
    """Files by their absolute paths, each once."""
    return tuple(dict.fromkeys(os.path.abspath(path) for path in plugins))


def start(job: Job, file: Path, stderr: int | None = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """Write the job into a file, and start the process that makes it."""
    write(file, job)
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
        write(beside(file), Ended("interrupted", ExitCode.INTERRUPTED))
        raise
    except Exception as error:
        told = described(error)
        goes_on = isinstance(error, CloudLostError) and job.run_id in job.store.ids()
        state = "interrupted" if goes_on or told.exit_code > 128 else "failed"
        write(beside(file), Ended(state, told.exit_code, told.message, told.hint))
        raise
    write(beside(file), ended)
    return ended


def beside(file: Path) -> Path:
    """Where the end of a job's file is written down."""
    return file.with_suffix(".ended.json")


def command_of(file: Path) -> list[str]:
    """The command that makes the run of a job's file."""
    return [sys.executable, "-m", "specbench", "job", str(file)]


def write(path: Path, record: Job | Ended) -> None:
    """Write a job, or how it ended, in one step.

    Raises:
        SpecbenchError: the folder cannot be written.
    """
    partial = path.with_suffix(".partial")
    try:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
        partial.replace(path)
    except OSError as error:
        raise SpecbenchError(f"{path} cannot be written: {error.strerror}", None, ExitCode.STORE) from error


def read_job(file: Path) -> Job:
    """The job of a file.

    Raises:
        SpecbenchError: there is none, it is damaged, or another version wrote it.
    """
    try:
        return _decode(file, Job)
    except OSError as error:
        raise SpecbenchError(f"job {file} cannot be read: {error.strerror}", None, ExitCode.STORE) from error


def read_ended(file: Path) -> Ended | None:
    """How the job of a file ended; `None` where it goes on, has not begun or was killed.

    Raises:
        SpecbenchError: that record is damaged.
    """
    try:
        os.listdir(file.parent)  # opening a folder has NFS look at it anew; it remembers what was not there
        return _decode(beside(file), Ended)
    except OSError:
        return None


def _decode(path: Path, kind: type[Record]) -> Record:
    data = path.read_bytes()
    try:
        version = msgspec.json.decode(data, type=dict).get("schema_version")
        if version != JOB_VERSION:
            raise SpecbenchError(
                f"{path} has schema version {version}; this specbench reads {JOB_VERSION}",
                "submit again",
                ExitCode.STORE,
            )
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise SpecbenchError(f"{path} is damaged: {error}", None, ExitCode.STORE) from error
