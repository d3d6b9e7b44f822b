"""Verifications on disk: `<runs>/verify/<id>.json`."""

from __future__ import annotations

from pathlib import Path

from specbench.atomic import read_record, write_json
from specbench.errors import ExitCode, SpecbenchError
from specbench.results import run_names
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
