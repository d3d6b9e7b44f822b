"""The state of a submission's jobs, and resubmitting those that were killed."""

from __future__ import annotations

import fcntl
import logging
import random
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from specbench.benchmark import sweep_record as sweeps
from specbench.benchmark.child_process import Ended, beside, read_ended
from specbench.benchmark.job import Job
from specbench.cluster import submission as submissions
from specbench.cluster.launchers import OVER, Known, Launcher, Local, SchedulerError, Slurm
from specbench.cluster.submission import Handed, Submission
from specbench.errors import RunError, SpecbenchError
from specbench.results.records import Run
from specbench.results.store import RunStore

logger = logging.getLogger(__name__)

FRUITLESS = 3  # jobs of a point in a row that may add nothing to its run
PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
PATIENCE_S = 300.0  # with a scheduler that does not answer
UNDER_WAY = ("running", "waiting")
# Slurm runs such a job again where the site allows it (`JobRequeue`, `PreemptMode`), and may show this state
# until the job waits again: https://slurm.schedmd.com/sbatch.html, --requeue.
REQUEUED = ("NODE_FAIL", "PREEMPTED")
REQUEUE_S = 60.0


@dataclass(frozen=True)
class Seen:
    """The state of a point: `done`, `running`, `waiting`, `lost` (to be resubmitted), `failed` or `cancelled`.

    Args:
        records: stored generations.
        note: the node that it runs on, what it waits for, the reason of a failure, or what a
            run ended with that must not be read as if all were well.
    """

    state: str
    records: int
    note: str = ""


def judge(ended: Ended | None, known: Known | None, cancelled: bool, over_s: float = 0.0) -> str:
    """The state of a point.

    Args:
        ended: what its last job said at its end, if it lived to.
        known: what the scheduler knows of its last job.
        over_s: how long it has been seen in that state.
    """
    if ended and ended.state == "done":
        return "done"
    if cancelled or (known and known.state == "CANCELLED"):
        return "cancelled"
    if known and known.state not in OVER:
        return "running" if known.state in ("RUNNING", "COMPLETING") else "waiting"
    if ended and ended.state == "failed":
        return "failed"
    return "waiting" if known and known.state in REQUEUED and over_s < REQUEUE_S else "lost"


@dataclass
class Follower:
    """Submits a submission's jobs, watches them, and resubmits those that were killed."""

    submission: Submission
    store: RunStore
    _over_since: dict[str, float] = field(default_factory=dict)

    @property
    def launcher(self) -> Launcher:
        """Who runs its jobs."""
        folder = submissions.folder_of(self.store, self.submission.submission_id)
        if self.submission.launcher == "slurm":
            return Slurm(folder, self.submission.spec)
        return Local(folder, self.submission.workers)

    def submit(self, asked: Sequence[Job]) -> None:
        """Write the record and submit all points in a seeded order, so that drift affects all values alike.

        Raises:
            SpecbenchError: it is refused; then nothing is left of it.
        """
        submissions.prepare(self.store, self.submission, asked)
        indices = list(range(len(asked)))
        random.Random(0).shuffle(indices)
        try:
            self._start(indices)
        except SpecbenchError:
            self.cancel()
            folder = submissions.folder_of(self.store, self.submission.submission_id)
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def look(self) -> list[Seen]:
        """Every point, as it is now.

        Raises:
            SpecbenchError: the scheduler cannot be asked, or a stored run is damaged.
        """
        jobs = [point.jobs[-1].job_id for point in self.submission.points if point.jobs]
        known = self.launcher.known(jobs) if jobs else {}
        return [self._seen(index, known) for index in range(len(self.submission.points))]

    def cancel(self) -> None:
        """End all jobs; what they have stored is kept, and nothing is submitted again.

        Raises:
            SpecbenchError: the scheduler cannot be asked.
        """
        self._keep(replace(self.submission, cancelled=True))
        jobs = [point.jobs[-1].job_id for point in self.submission.points if point.jobs]
        alive = (
            [job for job, known in self.launcher.known(jobs).items() if known.state not in OVER] if jobs else []
        )
        if alive:
            self.launcher.cancel(alive)

    def wait(self, minutes: float | None = None) -> list[Seen]:
        """Wait until no job runs or waits, and resubmit jobs that were killed.

        Args:
            minutes: give up after so long; the jobs go on.

        Raises:
            SpecbenchError: somebody else does that already, the time is over, or the scheduler did not answer
                for five minutes.
        """
        folder = submissions.folder_of(self.store, self.submission.submission_id)
        with (folder / "collecting").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # Both would submit a killed job again, and two jobs would write one run.
                raise SpecbenchError(
                    f"submission {self.submission.submission_id} is already being collected",
                    "look at it with 'specbench submit status'",
                ) from None
            return self._wait(minutes)

    def _wait(self, minutes: float | None) -> list[Seen]:
        began = answered = time.monotonic()
        told, pause_s = "", PAUSE_S
        while True:
            try:
                if not self.submission.cancelled and self._was_cancelled():
                    self.cancel()  # what was submitted meanwhile too
                seen = self.look()
                lost = [index for index, each in enumerate(seen) if each.state == "lost"]
                if lost:
                    logger.info(f"lost and resubmitted: {', '.join(map(str, lost))}")
                    self._start(lost)
                answered = time.monotonic()
            except SchedulerError:
                if time.monotonic() - answered > PATIENCE_S:
                    raise
                time.sleep(pause_s)
                continue
            if not lost and not any(each.state in UNDER_WAY for each in seen):
                self.record(seen)
                return seen
            now = in_words(seen)
            if now != told:
                self.record(seen)
                logger.info(now)
                told, pause_s = now, PAUSE_S
            if minutes is not None and time.monotonic() - began > 60 * minutes:
                raise RunError(
                    f"after {minutes:g} minutes: {now}",
                    "the jobs keep running; wait again with 'specbench submit collect'",
                )
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, LONGEST_PAUSE_S)

    def _seen(self, index: int, known: Mapping[str, Known]) -> Seen:
        # First its end: a job that ends in between has stored all of its run before.
        ended = read_ended(submissions.job_of(self.store, self.submission.submission_id, index))
        point, run = self.submission.points[index], self.run_of(index)
        job = known.get(point.jobs[-1].job_id) if point.jobs else None
        if self.submission.launcher == "local" and job:
            # A worker lives on after the jobs that are over, and before those that have not begun.
            job = None if ended else job if run else replace(job, state="PENDING")
        over_s = 0.0
        if job and job.state in REQUEUED:
            over_s = time.monotonic() - self._over_since.setdefault(point.jobs[-1].job_id, time.monotonic())
        elif point.jobs:
            self._over_since.pop(point.jobs[-1].job_id, None)
        state = judge(ended, job, self.submission.cancelled, over_s)
        records = len(run.generations) if run else 0
        note = job.note if job and state in UNDER_WAY else ""
        if ended and ended.code and state in ("done", "failed"):
            note = ended.error or f"exit status {ended.code}"
        if state in ("lost", "failed") and submissions.is_running(self.store, self.submission, index):
            return Seen("running", records, "in a job that was reported as ended")
        fruitless = [job.records for job in point.jobs[-FRUITLESS:]] == [records] * FRUITLESS
        if state == "lost" and fruitless and not self._never_began(index):
            return Seen("failed", records, f"{FRUITLESS} jobs in a row were killed before finishing a prompt")
        return Seen(state, records, note)

    def record(self, seen: Sequence[Seen]) -> None:
        """Record which runs a sweep has by now, so that 'sweep --resume' does not repeat them."""
        if self.submission.command != "sweep":
            return
        known = sweeps.read(self.store, self.submission.submission_id)
        begun = {index: each.run_id for index, each in enumerate(self.submission.points) if self.run_of(index)}
        done = (index for index, each in enumerate(seen) if each.state == "done")
        finished = tuple(dict.fromkeys((*known.finished, *done)))
        sweeps.write(self.store, replace(known, runs={**known.runs, **begun}, finished=finished))

    def rows(self, seen: Sequence[Seen]) -> list[dict[str, Any]]:
        """Every point as `submit status --json` shows it."""
        return [
            {
                "run": point.run_id,
                "condition": point.condition,
                "jobs": [job.job_id for job in point.jobs],
                **asdict(each),
            }
            for point, each in zip(self.submission.points, seen, strict=True)
        ]

    def lines(self, seen: Sequence[Seen]) -> list[str]:
        """How far the submission is, and each point below it, as text."""
        asked = self.submission
        lines = [f"{asked.submission_id}, {asked.command}, {asked.launcher}: {in_words(seen)}"]
        for index, (point, each) in enumerate(zip(asked.points, seen, strict=True)):
            condition = sweeps.in_words(point.condition)
            parts = [f"{index} {each.state}", f"{each.records} answers", each.note, condition]
            lines.append("  " + "; ".join(filter(None, parts)))
        return lines

    def run_of(self, index: int) -> Run | None:
        """What is stored of a point."""
        run_id = self.submission.points[index].run_id
        return self.store.read(run_id) if run_id in self.store.ids() else None

    def _start(self, indices: Sequence[int]) -> None:
        folder = submissions.folder_of(self.store, self.submission.submission_id)
        never_began = [index for index in indices if self._never_began(index)]
        for index in indices:
            beside(submissions.job_of(self.store, self.submission.submission_id, index)).unlink(missing_ok=True)
            (folder / str(index) / submissions.PENDING).touch()
        for index, job_id in self.launcher.start(indices):
            point, run = self.submission.points[index], self.run_of(index)
            before = point.jobs[:-1] if index in never_began else point.jobs
            job = Handed(job_id, len(run.generations) if run else 0)
            point = replace(point, jobs=(*before, job))
            self._keep(self.submission.with_point(index, point))

    def _never_began(self, index: int) -> bool:
        """Whether a point's turn never came, as its worker died over another one; no fault of its own."""
        folder = submissions.folder_of(self.store, self.submission.submission_id)
        return self.submission.launcher == "local" and (folder / str(index) / submissions.PENDING).exists()

    def _keep(self, submission: Submission) -> None:
        """Write the record down, which another process may have cancelled: that stays."""
        cancelled = submission.cancelled or self._was_cancelled()
        self.submission = submission
        submissions.write(self.store, replace(submission, cancelled=cancelled))

    def _was_cancelled(self) -> bool:
        return submissions.read(self.store, self.submission.submission_id).cancelled


def in_words(seen: Sequence[Seen]) -> str:
    """The number of points in each state, in words."""
    counts = Counter(each.state for each in seen)
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
