"""Runs a sweep: every condition in a process of its own, watched through what it stores."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from specbench.bench.store import GENERATIONS, RunStore
from specbench.bench.sweep import Sweep, in_words, write
from specbench.bench.timeleft import SweepProgress
from specbench.config.yaml_text import as_text
from specbench.errors import ExitCode, SpecbenchError
from specbench.records import Manifest

AS_TYPED = 3  # of a command, what the interpreter hands to the program
# Exit codes of a run that came to its end, with what failed on record.
ENDED = (ExitCode.OK, ExitCode.CHECK_FAILED, ExitCode.RUN, ExitCode.IDENTITY)
LOOK_EVERY_S = 1.0
CLOSING_S = 30.0  # for a run to end by itself when Ctrl-C reached it too


class SweepObserver(Protocol):
    """Who watches a sweep."""

    def note(self, line: str) -> None:
        """A line that a run wrote to stderr."""

    def advanced(self, progress: SweepProgress) -> None:
        """How far it is: when a condition begins, and every second."""


@dataclass
class Sweeper:
    """Runs what is left of a sweep, and writes down how far it is after every condition."""

    sweep: Sweep
    store: RunStore
    observer: SweepObserver

    def run(self) -> dict[int, int]:
        """Run all conditions that are not finished, in a seeded order: a drift is spread over all axes.

        Returns:
            Exit status by number of the condition, of those that did not come to their end; the others did.

        Raises:
            SpecbenchError: what is finished cannot be written down.
            KeyboardInterrupt: passed on, with what was begun on record.
        """
        conditions = self.sweep.conditions
        order = [index for index in range(len(conditions)) if index not in self.sweep.finished]
        random.Random(0).shuffle(order)
        failed: dict[int, int] = {}
        for index in order:
            code = self._run_one(index, conditions[index], len(self.sweep.finished) + len(failed))
            if index not in self.sweep.finished:
                failed[index] = code
            if code:
                self.observer.note(f"the condition {in_words(conditions[index])} ended with exit status {code}")
        return failed

    def _run_one(self, index: int, condition: dict[str, object], done: int) -> int:
        before, started = set(self.store.ids()), time.monotonic()
        known = self.sweep.runs.get(index)
        resumes = known is not None and known in before
        command = self._command(condition, known if resumes else None)
        watch = _Watch(self.store, before, tuple(command[AS_TYPED:]), known if resumes else None)
        taken = tuple(self.sweep.seconds.values())
        progress = SweepProgress(in_words(condition), len(self.sweep.conditions), done, taken)
        try:
            code = self._wait(command, watch, progress)
        finally:
            if (mine := watch.run_id()) in self.store.ids() and not resumes:
                self._keep(runs={**self.sweep.runs, index: mine})
        if code == ExitCode.INTERRUPTED:
            raise KeyboardInterrupt
        if self._came_to_its_end(index, code):
            # Of a resumed run, the other part was not timed.
            seconds = {} if resumes else {index: time.monotonic() - started}
            self._keep(finished=(*self.sweep.finished, index), seconds={**self.sweep.seconds, **seconds})
        return code

    def _wait(self, command: list[str], watch: _Watch, progress: SweepProgress) -> int:
        """Until the run ends: its exit status. What it says is passed on.

        Raises:
            KeyboardInterrupt: passed on once the run has stored what it finished.
        """
        started = time.monotonic()
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
        ) as process:
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
                _let_end(process)
                raise
            except BaseException:
                process.send_signal(signal.SIGINT)
                raise
            finally:
                reader.join()  # until the run has ended and all it said is passed on
            return process.returncode

    def _pass_on(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.observer.note(line.rstrip("\n"))

    def _came_to_its_end(self, index: int, code: int) -> bool:
        """Whether a run is stored that has nothing left to do; some of its methods may have failed."""
        run_id = self.sweep.runs.get(index)
        if code not in ENDED or run_id not in self.store.ids():
            return False
        # The same code says that no run could begin, or that the cloud was lost.
        found = self.store.read(run_id).manifest
        return code != ExitCode.RUN or (found.status == "failed" and bool(found.failures))

    def _command(self, condition: dict[str, object], resume: str | None) -> list[str]:
        values = [f"{key}={as_text(value)}" for key, value in condition.items()]
        return [
            *(sys.executable, "-c", "from specbench.cli import main; main()", "run", *self.sweep.methods),
            *("--profile", self.sweep.profile, "--runs-dir", str(self.store.folder), "--json"),
            *(part for value in (*self.sweep.overrides, *values) for part in ("--set", value)),
            *(part for path in self.sweep.plugins for part in ("--plugin", path)),
            *(("--resume", resume) if resume else ()),
        ]

    def _keep(self, **fields: object) -> None:
        self.sweep = replace(self.sweep, **fields)
        write(self.store, self.sweep)


class _Watch:
    """Counts the answers of a run as it stores them; reads what is new alone, so as not to disturb it."""

    def __init__(
        self, store: RunStore, before: set[str], command: tuple[str, ...], resumed: str | None
    ) -> None:
        self._store, self._before, self._command = store, before, command
        self._manifest: Manifest | None = store.read(resumed).manifest if resumed else None
        self._read_bytes = 0
        self._before_answers = self._new_lines(store.folder / resumed / GENERATIONS) if resumed else 0
        self._answers = self._before_answers
        self._first: tuple[float, int] | None = None

    def run_id(self) -> str | None:
        """The run that the command made; others may store runs in the same folder meanwhile."""
        if self._manifest is None:
            for run_id in sorted(set(self._store.ids()) - self._before):
                try:
                    found = self._store.read(run_id).manifest
                except SpecbenchError:
                    continue  # a run that finished nothing is gone again
                if found.command == self._command:
                    self._manifest = found
        return self._manifest.run_id if self._manifest else None

    def look(self, progress: SweepProgress) -> SweepProgress:
        """The progress with what is stored by now."""
        run_id = self.run_id()
        if run_id is None or self._manifest is None:
            return progress
        new = self._new_lines(self._store.folder / run_id / GENERATIONS)
        self._answers += new
        turns = sum(len(asked) for asked in self._manifest.turns.values())
        repeats = self._manifest.profile["workload"]["repeats"]
        total = turns * repeats * len(self._manifest.methods)
        now = progress.elapsed_s, self._answers
        # What comes before the first new answer is loading and warming up, which comes once.
        if self._first is None and new:
            self._first = now
        known = self._first is not None and self._answers > self._first[1]
        pace_s = (now[0] - self._first[0]) / (now[1] - self._first[1]) if known and self._first else None
        return replace(
            progress,
            answers=self._answers,
            answers_before=self._before_answers,
            answers_total=total,
            pace_s=pace_s,
        )

    def _new_lines(self, path: Path) -> int:
        if not path.is_file():
            return 0
        with path.open("rb") as file:
            file.seek(self._read_bytes)
            new = file.read()
        self._read_bytes += len(new)
        return new.count(b"\n")


def _let_end(process: subprocess.Popen) -> None:
    """Wait until a run that was interrupted too has stored its manifest; ask it, if Ctrl-C came here alone."""
    try:
        process.wait(CLOSING_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        process.wait()
