"""Launchers: this machine or Slurm.

A job is a shell script. Nothing is pickled, and no job's result is read but what it put into the store: so
submitit submits a command here, never a function.
"""

from __future__ import annotations

import math
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from typing import Protocol

from specbench.errors import ExitCode, SpecbenchError
from specbench.profile import ClusterSpec, NodeSpec

EACH = 'for job do sh "$job"; done'
ANSWER_S = 60  # for the scheduler to answer one question
# States of squeue in which a job will not run any more.
OVER = frozenset(
    (
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
        *("PREEMPTED", "REVOKED", "TIMEOUT"),
    )
)


@dataclass(frozen=True)
class Known:
    """What a launcher knows of a job, in Slurm's words: its state, and where it runs or why it waits."""

    state: str
    note: str = ""


class SchedulerError(SpecbenchError):
    """The scheduler refused, or did not answer."""


class Launcher(Protocol):
    """Runs the scripts of a submission's folder."""

    def start(self, indices: Sequence[int]) -> Iterator[tuple[int, str]]:
        """Submit the jobs of these points; yields each point with its job's id.

        Raises:
            SpecbenchError: it cannot be done here, or the scheduler refuses.
        """

    def known(self, job_ids: Sequence[str]) -> Mapping[str, Known]:
        """The jobs that it still knows. A job that it forgot is over.

        Raises:
            SpecbenchError: it cannot be asked.
        """

    def cancel(self, job_ids: Sequence[str]) -> None:
        """End jobs; those that are over are left alone.

        Raises:
            SpecbenchError: it cannot be asked.
        """


@dataclass(frozen=True)
class Local:
    """This machine: some workers, each of which runs its points one after the other.

    submitit's local executor is not used: it would start all points at once, poll each 24 times a second on the
    machine that is measured, and hide its GPUs.

    Args:
        folder: the submission's.
    """

    folder: Path
    workers: int

    def start(self, indices: Sequence[int]) -> Iterator[tuple[int, str]]:
        """See `Launcher`.

        A point has the same worker always, and a worker holds a lock as long as anything that it started lives:
        so no run is ever written by two processes.
        """
        for worker in range(self.workers):
            mine = [index for index in indices if index % self.workers == worker]
            if not mine:
                continue
            scripts = [str(self.folder / str(index) / "job.sh") for index in mine]
            process = subprocess.Popen(
                ["flock", str(self.folder / f"worker-{worker}"), "sh", "-c", EACH, "sh", *scripts],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # it outlives this command, and hears no Ctrl-C of this terminal
            )
            yield from ((index, f"{process.pid}@{gethostname()}") for index in mine)

    def known(self, job_ids: Sequence[str]) -> Mapping[str, Known]:
        """As of every launcher; what is over is not known here."""
        return {job_id: Known("RUNNING") for job_id in dict.fromkeys(job_ids) if self._pid(job_id)}

    def cancel(self, job_ids: Sequence[str]) -> None:
        """See `Launcher`."""
        for job_id in dict.fromkeys(job_ids):
            pid = self._pid(job_id)
            if pid:
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGTERM)

    def _pid(self, job_id: str) -> int | None:
        """The worker's process, where it still is one of this submission."""
        import psutil

        pid, _, host = job_id.partition("@")
        if host != gethostname():
            raise SpecbenchError(
                f"these jobs run on {host}, not on {gethostname()}", "run the command on that machine"
            )
        try:
            process = psutil.Process(int(pid))
            is_ours = any(word.startswith(f"{self.folder}/worker-") for word in process.cmdline())
        except psutil.Error:
            return None
        return process.pid if is_ours and process.status() != psutil.STATUS_ZOMBIE else None


@dataclass(frozen=True)
class Slurm:
    """The scheduler. It is asked itself, never its accounting, which many clusters do not have.

    Args:
        folder: the submission's, and no other's: job ids are used again when a controller starts afresh.
    """

    folder: Path
    spec: ClusterSpec

    def start(self, indices: Sequence[int]) -> Iterator[tuple[int, str]]:
        """See `Launcher`."""
        try:
            from submitit import SlurmExecutor
            from submitit.core.utils import FailedJobError, FailedSubmissionError
        except ImportError as error:
            raise SpecbenchError(
                "submitting to Slurm needs submitit", "pip install 'specbench[cluster]'"
            ) from error
        if not shutil.which("sbatch") or not shutil.which("srun"):
            raise SchedulerError("Slurm not found: there is no sbatch", "use --launcher local")
        jobs = self.folder / "jobs"
        jobs.mkdir(exist_ok=True)
        executor = SlurmExecutor(jobs)
        executor.update_parameters(
            job_name="specbench",
            use_srun=False,  # a step of its own would get one processor, and be told of the end too early
            stderr_to_stdout=True,
            signal_delay_s=1,
            setup=_second_node(self.spec),
            additional_parameters={**_options(self.spec, self.spec), "requeue": True},
        )
        for index in indices:
            try:
                job = executor._submit_command(shlex.join(["sh", str(self.folder / str(index) / "job.sh")]))
            except (FailedJobError, FailedSubmissionError) as error:
                raise SchedulerError(
                    f"Slurm refused the job: {_first_line(str(error))}",
                    "change what the profile's cluster: section requests",
                    ExitCode.RUN,
                ) from error
            yield index, job.job_id

    def known(self, job_ids: Sequence[str]) -> Mapping[str, Known]:
        """See `Launcher`."""
        wanted = ",".join(job_ids)
        words = ["squeue", "--noheader", "--states=all", f"--jobs={wanted}", "--format=%A %T %R"]
        lines = [line.split(maxsplit=2) for line in _ask(words, forgotten="Invalid job id").splitlines()]
        return {line[0]: Known(line[1], "".join(line[2:]).strip("()")) for line in lines if len(line) > 1}

    def cancel(self, job_ids: Sequence[str]) -> None:
        """See `Launcher`."""
        _ask(["scancel", *job_ids], forgotten="Invalid job id")


def _options(node: NodeSpec, spec: ClusterSpec) -> dict[str, object]:
    """What sbatch is asked for one node."""
    from specbench.models.confinement import size_bytes

    asked = {
        "nodes": 1,
        "ntasks": 1,
        "time": spec.minutes,
        "exclusive": spec.exclusive or None,
        "account": spec.account,
        "partition": node.partition,
        "constraint": node.constraint,
        "cpus-per-task": node.cpus,
        "mem": f"{math.ceil(size_bytes(node.memory) / 2**20)}M" if node.memory else None,
        "gpus-per-node": node.gpus,
    }
    return {key: value for key, value in asked.items() if value is not None}


def _second_node(spec: ClusterSpec) -> list[str]:
    """Where the target is served on a node of its own: the second part of a heterogeneous job."""
    if spec.cloud is None:
        return []
    flags = [
        f"--{key}" if value is True else shlex.quote(f"--{key}={value}")
        for key, value in _options(spec.cloud, spec).items()
    ]
    return ["#SBATCH hetjob", *(f"#SBATCH {flag}" for flag in flags)]


def _ask(words: Sequence[str], forgotten: str) -> str:
    """What one of Slurm's commands prints; jobs that it does not know any more are no error.

    Raises:
        SchedulerError: it is not there, refuses, or does not answer.
    """
    try:
        done = subprocess.run(words, capture_output=True, errors="replace", timeout=ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SchedulerError(f"{words[0]} does not answer: {error}", None, ExitCode.RUN) from error
    if done.returncode and forgotten not in done.stderr:
        raise SchedulerError(f"{words[0]} failed: {_first_line(done.stderr)}", None, ExitCode.RUN)
    return done.stdout


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "it gives no reason")
