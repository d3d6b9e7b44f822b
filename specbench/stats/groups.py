"""The rows of a comparison: what one method did in one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specbench.results.records import Generation, Run
from specbench.stats import verdict
from specbench.stats.row_names import row_names


@dataclass(frozen=True)
class Group:
    """What one method did in one run, under its name in the table."""

    name: str
    method: str
    run: Run
    records: list[Generation]


def groups_of(runs: Sequence[Run]) -> list[Group]:
    """In the order of the manifests; a method that several runs have is named by what differs."""
    names, groups = row_names(runs), []
    for run in runs:
        for method in run.manifest.methods:
            records = run.of(method)
            if records:
                groups.append(Group(names[run.manifest.run_id, method], method, run, records))
    return groups


def versus(group: Group, control: Group) -> verdict.Speedup:
    """A row against the control; over restarts where both were restarted alike."""
    ours, theirs = (each.run.manifest.restart_repeats for each in (group, control))
    return verdict.speedup(control.records, group.records, ours if ours == theirs else None)
