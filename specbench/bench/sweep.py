"""A grid over fields of the profile: every condition is a stored run, in a process of its own."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import msgspec

from specbench.bench.store import RunStore
from specbench.config import load_profile, settings_hash
from specbench.errors import ExitCode, SpecbenchError, nearest
from specbench.records import Manifest

SWEEP_VERSION = 1
FOLDER = "sweeps"
AS_TYPED = 3  # of a command, what the interpreter hands to the program
# Exit codes of a run that came to its end, with what failed on record.
ENDED = (ExitCode.OK, ExitCode.CHECK_FAILED, ExitCode.RUN, ExitCode.IDENTITY)


@dataclass(frozen=True)
class Sweep:
    """What is asked, and how far it came; a file beside the runs.

    Args:
        over: values by key of the profile.
        plugins: files of methods of one's own.
        profile_sha256: of the resolved profile before a key is varied; a sweep goes on with the same alone.
        runs: run ids by number of the condition, finished or begun; `finished` those that are.
        seconds: what each finished condition took.
    """

    sweep_id: str
    methods: tuple[str, ...]
    profile: str
    overrides: tuple[str, ...]
    over: dict[str, list]
    profile_sha256: str
    plugins: tuple[str, ...] = ()
    runs: dict[int, str] = field(default_factory=dict)
    finished: tuple[int, ...] = ()
    seconds: dict[int, float] = field(default_factory=dict)
    schema_version: int = SWEEP_VERSION

    @property
    def conditions(self) -> list[dict[str, object]]:
        """Every combination of values, the last key varying fastest."""
        return [dict(zip(self.over, values, strict=True)) for values in product(*self.over.values())]


@dataclass
class Sweeper:
    """Runs what is left of a sweep, and writes down how far it is after every condition.

    Args:
        say: receives a line before each condition.
    """

    sweep: Sweep
    store: RunStore
    say: Callable[[str], None]

    def run(self) -> Sweep:
        """Run all conditions that are not finished, in a seeded order: a drift is spread over all axes.

        Raises:
            SpecbenchError: a condition cannot be run; the rest can, by resuming.
            KeyboardInterrupt: passed on, with what was begun on record.
        """
        conditions = self.sweep.conditions
        order = [index for index in range(len(conditions)) if index not in self.sweep.finished]
        random.Random(0).shuffle(order)
        for index in order:
            self.say(self._progress(conditions[index]))
            self._run_one(index, conditions[index])
        return self.sweep

    def _run_one(self, index: int, condition: dict[str, object]) -> None:
        before, started = set(self.store.ids()), time.monotonic()
        known = self.sweep.runs.get(index)
        resumes = known is not None and known in before
        command = self._command(condition, known if resumes else None)
        try:
            code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
        finally:
            new = sorted(set(self.store.ids()) - before)
            # Others may store runs in the same folder meanwhile.
            mine = [run_id for run_id in new if self._manifest(run_id).command == tuple(command[AS_TYPED:])]
            if mine and not resumes:
                self._keep(runs={**self.sweep.runs, index: mine[-1]})
        if code == ExitCode.INTERRUPTED:
            raise KeyboardInterrupt
        if not self._came_to_its_end(index, code):
            raise SpecbenchError(
                f"the condition {_in_words(condition)} ended with exit status {code}, for the reason above",
                f"mend it, and go on with 'specbench sweep --resume {self.sweep.sweep_id}'",
                ExitCode(code) if code in set(ExitCode) else ExitCode.RUN,
            )
        self._keep(
            finished=(*self.sweep.finished, index),
            seconds={**self.sweep.seconds, index: time.monotonic() - started},
        )

    def _came_to_its_end(self, index: int, code: int) -> bool:
        """Whether a run is stored that has nothing left to do; some of its methods may have failed."""
        run_id = self.sweep.runs.get(index)
        if code not in ENDED or run_id not in self.store.ids():
            return False
        # The same code says that no run could begin, or that the cloud was lost.
        found = self._manifest(run_id)
        return code != ExitCode.RUN or (found.status == "failed" and bool(found.failures))

    def _manifest(self, run_id: str) -> Manifest:
        return self.store.read(run_id).manifest

    def _command(self, condition: dict[str, object], resume: str | None) -> list[str]:
        values = [f"{key}={json.dumps(value)}" for key, value in condition.items()]
        return [
            *(sys.executable, "-c", "from specbench.cli import main; main()", "run", *self.sweep.methods),
            *("--profile", self.sweep.profile, "--runs-dir", str(self.store.folder), "--json"),
            *(part for value in (*self.sweep.overrides, *values) for part in ("--set", value)),
            *(part for path in self.sweep.plugins for part in ("--plugin", path)),
            *(("--resume", resume) if resume else ()),
        ]

    def _progress(self, condition: dict[str, object]) -> str:
        """Where the sweep is, and how long it may take: what conditions took so far, in the mean."""
        taken, total = list(self.sweep.seconds.values()), len(self.sweep.conditions)
        left = total - len(self.sweep.finished)
        line = f"condition {total - left + 1} of {total}: {_in_words(condition)}"
        if not taken:
            return line
        mean, spread = sum(taken) / len(taken), (max(taken) - min(taken)) / 2
        unit, size = ("min", 60) if mean * left > 120 else ("s", 1)
        return f"{line}; about {mean * left / size:.0f} {unit} left, give or take {spread * left / size:.0f}"

    def _keep(self, **fields: object) -> None:
        self.sweep = replace(self.sweep, **fields)
        write(self.store, self.sweep)


def new_sweep(
    store: RunStore,
    methods: tuple[str, ...],
    profile: str,
    overrides: tuple[str, ...],
    over: dict[str, list],
    plugins: tuple[str, ...] = (),
) -> Sweep:
    """A sweep on record, every condition of which is a valid profile.

    Raises:
        SpecbenchError: the first condition that is not.
    """
    base = load_profile(profile, overrides)
    sweep = Sweep(
        store.new_id(), methods, profile, overrides, over, settings_hash(base.model_dump(mode="json")), plugins
    )
    for condition in sweep.conditions:
        load_profile(profile, overrides, condition)
    write(store, sweep)
    return sweep


def write(store: RunStore, sweep: Sweep) -> None:
    """Replace the sweep's file in one step.

    Raises:
        SpecbenchError: the folder cannot be written.
    """
    path = _path(store, sweep.sweep_id)
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(sweep), indent=2) + b"\n")
        partial.replace(path)
    except OSError as error:
        raise SpecbenchError(f"{path} cannot be written: {error.strerror}", exit_code=ExitCode.STORE) from error


def exists(store: RunStore, sweep_id: str) -> bool:
    """Whether a sweep of that id is on record."""
    return _path(store, sweep_id).is_file()


def read(store: RunStore, sweep_id: str) -> Sweep:
    """A sweep on record.

    Raises:
        SpecbenchError: there is none of that id, its file is damaged, or the profile is another by now.
    """
    path = _path(store, sweep_id)
    if not path.is_file():
        ids = [each.stem for each in path.parent.glob("*.json")]
        raise SpecbenchError(
            f"there is no sweep '{sweep_id}' in {store.folder}", nearest(sweep_id, ids), ExitCode.STORE
        )
    try:
        sweep = msgspec.json.decode(path.read_bytes(), type=Sweep)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SpecbenchError(f"{path} is damaged: {error}", None, ExitCode.STORE) from error
    if sweep.schema_version != SWEEP_VERSION:
        raise SpecbenchError(
            f"{path} has schema version {sweep.schema_version}; this specbench reads {SWEEP_VERSION}",
            None,
            ExitCode.STORE,
        )
    return sweep


def demand_same_profile(sweep: Sweep) -> None:
    """Refuse to go on when the profile has changed since the sweep began.

    Raises:
        SpecbenchError: it has.
    """
    now = load_profile(sweep.profile, sweep.overrides)
    if settings_hash(now.model_dump(mode="json")) != sweep.profile_sha256:
        raise SpecbenchError(
            f"sweep {sweep.sweep_id} cannot be resumed: profile {sweep.profile} has changed since",
            "restore the profile, or start a new sweep",
            ExitCode.STORE,
        )


def _path(store: RunStore, sweep_id: str) -> Path:
    return store.folder / FOLDER / f"{sweep_id}.json"


def _in_words(condition: dict[str, object]) -> str:
    return ", ".join(f"{key}={value}" for key, value in condition.items())
