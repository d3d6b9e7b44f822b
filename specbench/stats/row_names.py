"""How rows of several runs are told apart: by the settings in which the runs differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from specbench.benchmark.differences import differences
from specbench.results.records import Run

LONGEST_VALUE = 24  # a longer one, such as the name of a processor, is no name for a row


def base(name: str) -> str:
    """The method of a row, without what tells it from the same method of another run."""
    return name.partition("@")[0]


def row_names(runs: Sequence[Run]) -> dict[tuple[str, str], str]:
    """By run and method, what its row is called: `speculative`, or `speculative@draft_length=2`.

    A method of one run alone keeps its name. One that drafts nothing is not told by how drafting was set. Where
    no setting tells rows apart, the run's id does.
    """
    varied = _varied(runs)
    names: dict[tuple[str, str], str] = {}
    for method in dict.fromkeys(method for run in runs for method in run.manifest.methods):
        mine = [run for run in runs if any(each.method == method for each in run.generations)]
        drafts = any(part.drafted for run in mine for each in run.generations if each.method == method
                     for part in each.rounds)  # fmt: skip
        keys = [
            key for key in varied
            if (drafts or not key.startswith("speculative."))
            and (not key.startswith("methods.") or key.startswith(f"methods.{method}."))
        ]  # fmt: skip
        told = [_told(varied, keys, run.manifest.run_id) for run in mine]
        for run, words in zip(mine, told, strict=True):
            run_id = run.manifest.run_id
            words = words if words and told.count(words) == 1 else run_id
            names[run_id, method] = f"{method}@{words}" if len(mine) > 1 else method
    return names


def told_runs(runs: Sequence[Run]) -> list[str]:
    """Every run's id, with the settings in which it differs from the others."""
    varied = _varied(runs)
    found = []
    for run in runs:
        words = _told(varied, list(varied), run.manifest.run_id)
        found.append(run.manifest.run_id + (f" ({words})" if words else ""))
    return found


def _varied(runs: Sequence[Run]) -> dict[str, dict[str, object]]:
    """By setting in which any run differs from the first, the value of each run."""
    first = runs[0].manifest
    found: dict[str, dict[str, object]] = {}
    for run in runs[1:]:
        for key, left, right in differences(first, run.manifest):
            values = found.setdefault(key, dict.fromkeys((each.manifest.run_id for each in runs), left))
            values[run.manifest.run_id] = right
    return {
        key: values
        for key, values in found.items()
        if all(len(str(value)) <= LONGEST_VALUE for value in values.values())
    }


def _told(varied: Mapping[str, Mapping[str, object]], keys: Sequence[str], run_id: str) -> str:
    """The run's values, each by the shortest name that no other of these settings has."""
    last = [key.rpartition(".")[2] for key in keys]
    short = [name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)]
    return ",".join(f"{name}={varied[key][run_id]}" for name, key in zip(short, keys, strict=True))
