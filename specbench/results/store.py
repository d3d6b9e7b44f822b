"""Runs on disk: `<runs>/<id>/manifest.json` and `generations.jsonl`, flushed after each prompt."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import takewhile
from pathlib import Path
from typing import TypeVar

import msgspec

from specbench.atomic import json_bytes, write_bytes
from specbench.errors import StoreError
from specbench.results import completeness, run_names
from specbench.results.lock import RunLock
from specbench.results.records import SCHEMA_VERSION, Generation, Manifest, Run, Written

MANIFEST = "manifest.json"
GENERATIONS = completeness.FILE
SWEEPS = "sweeps"  # a folder beside the runs
Result = TypeVar("Result")


class _Named(msgspec.Struct):
    name: str | None = None


@dataclass(frozen=True)
class RunStore:
    """The folder that holds all runs."""

    folder: Path

    def new_id(self) -> str:
        """An id that sorts by time, to the microsecond."""
        return f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S-%f}"

    def ids(self) -> list[str]:
        """All run ids, oldest first."""
        return sorted(path.parent.name for path in self.folder.glob(f"*/{MANIFEST}"))

    def find(self, run_id: str | None) -> str:
        """The run called `run_id`: its id, `latest`, its name, or a unique beginning or end of the id.

        Args:
            run_id: the newest run where it is `None`.

        Raises:
            SpecbenchError: there is no such run, there are several, or none at all.
        """
        ids = self.ids()
        if not ids and run_id in (None, run_names.LATEST):
            raise StoreError(
                f"there are no runs in {self.folder}",
                "make one with 'specbench run speculative', or pass another folder as --runs-dir",
            )
        if (self.folder / SWEEPS / f"{run_id}.json").is_file():
            raise StoreError(f"{run_id} is a sweep, not a run", f"show it with 'specbench report {run_id}'")
        return run_names.resolved(run_id or run_names.LATEST, ids, self._name_of, self.folder)

    def delete(self, run_id: str) -> None:
        """Remove a run from the disk.

        Raises:
            SpecbenchError: another process writes it, or its folder cannot be removed.
        """
        folder = self.folder / run_id
        try:
            RunLock(folder).release()
            shutil.rmtree(folder)
        except OSError as error:
            raise StoreError(f"the run folder {folder} cannot be removed: {error.strerror}") from error

    def _name_of(self, run_id: str) -> str | None:
        try:
            return msgspec.json.decode((self.folder / run_id / MANIFEST).read_bytes(), type=_Named).name
        except (OSError, msgspec.MsgspecError):
            return None

    def create(self, manifest: Manifest) -> RunWriter:
        """A new run, its manifest written.

        Raises:
            SpecbenchError: the folder cannot be written.
        """
        folder = self.folder / manifest.run_id

        def make() -> RunWriter:
            folder.mkdir(parents=True)
            return RunWriter(folder, RunLock(folder))

        writer = _on_disk(folder, make)
        writer.write_manifest(manifest)
        return writer

    def reopen(self, run_id: str, whole_prompts: bool = False) -> tuple[Run, RunWriter]:
        """A run to go on with. What a kill cut off in mid-write is dropped: a line, or a prompt's first turns.

        Args:
            whole_prompts: drop the last prompt unless all methods have answered it, so that no two answers
                to one prompt come from two machines.

        Raises:
            SpecbenchError: a record is damaged, double or changed, or another process writes the run.
        """
        folder = self.folder / run_id
        writer = RunWriter(folder, _on_disk(folder, lambda: RunLock(folder)))
        writer.drop_unfinished_line()
        run = self.read(run_id)
        unfinished = _unfinished_turns(run.generations)
        if whole_prompts:
            unfinished = max(unfinished, _unfinished_methods(run))
        kept = run.generations[: len(run.generations) - unfinished]
        if reason := completeness.beyond_repair(run.manifest, kept, writer.written()):
            raise StoreError(
                f"run {run_id} cannot be resumed: {reason}", "restore the file, or start a new run"
            )
        if unfinished:
            writer.drop_last_lines(unfinished)
            run = replace(run, generations=kept)
        return run, writer

    def read(self, run_id: str) -> Run:
        """A stored run.

        Raises:
            SpecbenchError: a file is missing, damaged, or of another schema version.
        """
        folder = self.folder / run_id
        path = folder / GENERATIONS
        return decoded(_read(folder / MANIFEST), _read(path) if path.is_file() else b"", folder)

    def lines(self, run_id: str) -> bytes:
        """The lines of a run's generations as they were written, without one that a kill cut off.

        Raises:
            SpecbenchError: they cannot be read.
        """
        path = self.folder / run_id / GENERATIONS
        text, newline, _ = (_read(path) if path.is_file() else b"").rpartition(b"\n")
        return text + newline


def decoded(manifest: bytes, generations: bytes, folder: Path) -> Run:
    """A run of the bytes of its two files, which lie, or lay, in `folder`.

    Raises:
        SpecbenchError: they are damaged, or of another schema version.
    """
    known = _decode(manifest, Manifest, str(folder / MANIFEST))
    # What follows the last newline was being written when the run was killed.
    records = [
        _decode(line, Generation, f"{folder / GENERATIONS}, line {number}")
        for number, line in enumerate(generations.split(b"\n")[:-1], 1)
    ]
    faults = completeness.faults(known, records, completeness.written(generations))
    return Run(known, tuple(records), faults)


@dataclass(frozen=True)
class RunWriter:
    """Appends to one run. A prompt's generations are written in one piece, or not at all."""

    folder: Path
    lock: RunLock

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest in one step.

        Raises:
            SpecbenchError: the disk is full or the folder cannot be written.
        """
        _on_disk(self.folder, lambda: write_bytes(self.folder / MANIFEST, json_bytes(manifest)))

    def append(self, generations: Sequence[Generation]) -> None:
        """Add generations and wait until they are on the disk.

        Raises:
            SpecbenchError: the disk is full or the folder cannot be written; nothing half-written stays.
        """
        path = self.folder / GENERATIONS
        block = b"".join(msgspec.json.encode(generation) + b"\n" for generation in generations)

        def write() -> None:
            with path.open("ab", buffering=0) as file:
                start, written = file.seek(0, os.SEEK_END), 0
                try:
                    while written < len(block):
                        written += file.write(block[written:])
                    os.fsync(file.fileno())
                except BaseException as error:
                    # What Ctrl-C finds written as a whole is finished, and stays.
                    if not isinstance(error, KeyboardInterrupt) or written < len(block):
                        file.truncate(start)
                    raise

        _on_disk(self.folder, write)

    def written(self) -> Written:
        """What is on the disk by now."""
        path = self.folder / GENERATIONS
        return completeness.written(_read(path) if path.is_file() else b"")

    @property
    def holds_generations(self) -> bool:
        """Whether anything was finished, by what is on the disk."""
        path = self.folder / GENERATIONS
        return path.is_file() and path.stat().st_size > 0

    def discard(self) -> None:
        """Remove the run's folder."""
        self.lock.release()  # an open file keeps its folder on NFS
        shutil.rmtree(self.folder, ignore_errors=True)

    def drop_unfinished_line(self) -> None:
        """Cut off what a kill left behind the last newline."""
        path = self.folder / GENERATIONS
        if path.is_file():
            self._keep(path, _read(path).rpartition(b"\n")[0])

    def drop_last_lines(self, count: int) -> None:
        """Cut off whole lines at the end."""
        path = self.folder / GENERATIONS
        self._keep(path, b"\n".join(_read(path).splitlines()[:-count]))

    def _keep(self, path: Path, lines: bytes) -> None:
        _on_disk(self.folder, lambda: os.truncate(path, len(lines) + 1 if lines else 0))


def _unfinished_turns(generations: Sequence[Generation]) -> int:
    """How many records at the end belong to a prompt whose last turn is missing."""
    if not generations or generations[-1].turn + 1 == generations[-1].turns:
        return 0
    return generations[-1].turn + 1


def _unfinished_methods(run: Run) -> int:
    """How many records at the end belong to a prompt that some method has not answered."""
    last = [(each.prompt_id, each.repeat) for each in run.generations[-1:]]
    block = list(takewhile(lambda each: [(each.prompt_id, each.repeat)] == last, reversed(run.generations)))
    answered = {each.method for each in block if each.turn + 1 == each.turns}
    return 0 if answered.issuperset(run.manifest.methods) else len(block)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error


def _on_disk(folder: Path, write: Callable[[], Result]) -> Result:
    try:
        return write()
    except OSError as error:
        raise StoreError(
            f"the run folder {folder} cannot be written: {error.strerror}",
            "free some space, or pass another folder as --runs-dir; finished prompts are kept: "
            f"resume with 'specbench run --resume {folder.name}'",
        ) from error


def _decode(data: bytes, kind: type[Result], place: str) -> Result:
    try:
        version = msgspec.json.decode(data, type=dict).get("schema_version")
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"{place} has schema version {version}; this specbench reads {SCHEMA_VERSION}",
                "use the version of specbench that wrote it (see its manifest), or run it again",
            )
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise StoreError(
            f"{place} is damaged: {error}", "restore it, or remove that line to run its prompt again"
        ) from error
