"""Runs a sweep: every condition in a process of its own, watched through what it stores."""

from __future__ import annotations

import logging
import random
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import msgspec

from specbench.benchmark import child_process
from specbench.benchmark.child_process import Ended
from specbench.benchmark.job import Job
from specbench.benchmark.sweep_record import Sweep, in_words, write
from specbench.errors import ExitCode
from specbench.results.records import Manifest
from specbench.results.store import GENERATIONS, MANIFEST, RunStore
from specbench.sweeps.time_left import SweepProgress

LOOK_EVERY_S = 1.0

logger = logging.getLogger(__name__)


class SweepObserver(Protocol):
    """Who watches a sweep."""

    def advanced(self, progress: SweepProgress) -> None:
        """How far it is: when a condition begins, and every second."""


@dataclass
class Sweeper:
    """Runs what is left of a sweep, and writes down how far it is after every condition."""

    sweep: Sweep
    store: RunStore
    observer: SweepObserver

    def run(self) -> dict[int, Ended]:
        """Run all conditions that are not finished, in a seeded order: a drift is spread over all axes.

        Returns:
            How those ended, by number of the condition, that did not come to their end.

        Raises:
            SpecbenchError: what is finished cannot be written down.
            KeyboardInterrupt: passed on, with what was begun on record.
        """
        conditions = self.sweep.conditions
        order = [index for index in range(len(conditions)) if index not in self.sweep.finished]
        random.Random(0).shuffle(order)
        failed: dict[int, Ended] = {}
        for index in order:
            ended = self._run_one(index, len(self.sweep.finished) + len(failed))
            if ended.state != "done":
                failed[index] = ended
            if ended.code:
                condition = in_words(conditions[index])
                logger.info(f"the condition {condition} ended with exit status {ended.code}")
        return failed

    def _run_one(self, index: int, done: int) -> Ended:
        started, known = time.monotonic(), self.sweep.runs.get(index)
        goes_on = known in self.store.ids()
        job = self.sweep.job(self.store, index)
        job = replace(job, run_id=known) if goes_on and known else job
        condition = in_words(self.sweep.conditions[index])
        taken = tuple(self.sweep.seconds.values())
        progress = SweepProgress(condition, len(self.sweep.conditions), done, taken)
        try:
            ended = self._wait(job, Watch(self.store, job.run_id), progress)
        finally:
            if job.run_id in self.store.ids():
                self._keep(replace(self.sweep, runs={**self.sweep.runs, index: job.run_id}))
        if ended.code == ExitCode.INTERRUPTED:
            raise KeyboardInterrupt
        if ended.state == "done":
            # Of a resumed run, the other part was not timed.
            seconds = {} if goes_on else {index: time.monotonic() - started}
            done_too, seconds = (*self.sweep.finished, index), {**self.sweep.seconds, **seconds}
            self._keep(replace(self.sweep, finished=done_too, seconds=seconds))
        return ended

    def _wait(self, job: Job, watch: Watch, progress: SweepProgress) -> Ended:
        """Until the run ends: how it did. What it says is passed on.

        Raises:
            KeyboardInterrupt: passed on once the run has stored what it finished.
        """
        started = time.monotonic()
        with (
            tempfile.TemporaryDirectory(prefix="specbench-") as folder,
            child_process.start(job, file := Path(folder) / child_process.JOB, subprocess.PIPE) as process,
        ):
            assert process.stderr is not None
            reader = threading.Thread(target=self._pass_on, args=(process.stderr,), daemon=True)
            reader.start()
            try:
                while process.poll() is None:
                    elapsed_s = time.monotonic() - started
                    self.observer.advanced(watch.look(replace(progress, elapsed_s=elapsed_s)))
                    try:
                        process.wait(LOOK_EVERY_S)
                    except subprocess.TimeoutExpired:
                        continue
            except KeyboardInterrupt:
                child_process.let_end(process)
                raise
            except BaseException:
                process.send_signal(signal.SIGINT)
                raise
            finally:
                reader.join()  # until the run has ended and all it said is passed on
            return child_process.end_of(file, process.returncode)

    def _pass_on(self, lines: Iterable[str]) -> None:
        for line in lines:
            logger.info(line.rstrip("\n"))

    def _keep(self, sweep: Sweep) -> None:
        self.sweep = sweep
        write(self.store, sweep)


class Watch:
    """Counts the answers of a run as it stores them; reads what is new alone, so as not to disturb it."""

    def __init__(self, store: RunStore, run_id: str) -> None:
        self._folder = store.folder / run_id
        self._total: int | None = None
        self._read_bytes = 0
        self._answers = self._answers_before = self._new_lines()
        self._first: tuple[float, int] | None = None

    def look(self, progress: SweepProgress) -> SweepProgress:
        """The progress with what is stored by now."""
        if self._total is None:
            self._total = self._known_total()
        new = self._new_lines()
        self._answers += new
        now = progress.elapsed_s, self._answers
        # What comes before the first new answer is loading and warming up, which comes once.
        if self._first is None and new:
            self._first = now
        known = self._first is not None and self._answers > self._first[1]
        pace_s = (now[0] - self._first[0]) / (now[1] - self._first[1]) if known and self._first else None
        return replace(
            progress,
            answers=self._answers,
            answers_before=self._answers_before,
            answers_total=self._total or 0,
            pace_s=pace_s,
        )

    def _known_total(self) -> int | None:
        try:
            manifest = msgspec.json.decode((self._folder / MANIFEST).read_bytes(), type=Manifest)
        except OSError:
            return None  # it has not begun
        turns = sum(len(asked) for asked in manifest.turns.values())
        workload = manifest.profile["workload"]
        return turns * workload["repeats"] * workload.get("restarts", 1) * len(manifest.methods)

    def _new_lines(self) -> int:
        path = self._folder / GENERATIONS
        if not path.is_file():
            return 0
        with path.open("rb") as file:
            file.seek(self._read_bytes)
            new = file.read()
        self._read_bytes += len(new)
        return new.count(b"\n")
