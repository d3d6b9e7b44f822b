"""Verifications on disk: `<runs>/verify/<id>.json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from specbench.atomic import read_record, write_json
from specbench.errors import ExitCode, SpecbenchError, StoreError
from specbench.results import run_names
from specbench.results.store import RunStore
from specbench.verify.records import Result

FOLDER, VERSION = "verify", 1


def write(runs: Path, result: Result) -> Path:
    """Store a result; returns its file.

    Raises:
        SpecbenchError: it cannot be written.
    """
    path = runs / FOLDER / f"{result.verify_id}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecbenchError(f"{path} cannot be written: {error.strerror}", exit_code=ExitCode.STORE) from error
    write_json(path, result)
    return path


def named(runs: Path, names: Sequence[str]) -> list[Result]:
    """The verifications called `names`, by id or a unique beginning or end of it; none where these are runs.

    Raises:
        SpecbenchError: some of them are runs, one may be both, or one is damaged.
    """
    ids, run_ids = sorted(each.stem for each in (runs / FOLDER).glob("*.json")), RunStore(runs).ids()
    meant = {name: run_names.parted(name, ids) for name in names}
    for name, found in meant.items():
        others = [] if {name} & {*ids, *run_ids} else run_names.parted(name, run_ids)
        if found and others:
            both = f"verifications ({run_names.listed(found)}) and runs ({run_names.listed(others)})"
            raise StoreError(f"'{name}' means {both}", "write more of the id")
    known = {name: found[0] for name, found in meant.items() if len(found) == 1}
    if not known or any((runs / name).is_dir() for name in known):
        return []
    if len(known) < len(meant):
        other = next(name for name in meant if name not in known)
        raise SpecbenchError(
            f"{other} is no verification, and {next(iter(known))} is one", "compare runs with runs alone"
        )
    return [read(runs, each) for each in dict.fromkeys(known.values())]


def read(runs: Path, name: str) -> Result:
    """A stored result by its id, a unique beginning or end of it, or `latest`.

    Raises:
        SpecbenchError: there is none, or it is damaged.
    """
    folder = runs / FOLDER
    ids = sorted(each.stem for each in folder.glob("*.json"))
    if not ids:
        raise SpecbenchError(
            f"there are no verifications in {folder}", "make one with 'specbench verify URL'", ExitCode.STORE
        )
    found = run_names.resolved(name, ids, lambda _: None, folder)
    return read_record(folder / f"{found}.json", Result, VERSION)
