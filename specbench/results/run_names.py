"""What a run may be called beside its id: `latest`, the name that it was given, or a part of its id."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from specbench.errors import SpecbenchError, StoreError, nearest

LATEST = "latest"
NAME = re.compile(r"[A-Za-z][\w.-]*")
SHOWN = 5


def demand_name(name: str) -> str:
    """A name that can be told from an id, a path and an option.

    Raises:
        SpecbenchError: it cannot.
    """
    if name == LATEST or not NAME.fullmatch(name):
        raise SpecbenchError(
            f"'{name}' cannot be the name of a run",
            f"begin with a letter, then use letters, digits, '.', '-' and '_'; '{LATEST}' is taken",
        )
    return name


def resolved(asked: str, ids: Sequence[str], name_of: Callable[[str], str | None], folder: object) -> str:
    """The id of the run that is meant. Of several runs of one name it is the newest.

    Args:
        ids: of all runs, oldest first.

    Raises:
        SpecbenchError: no run is meant, or several are.
    """
    if asked in ids:
        return asked
    if asked == LATEST:
        return ids[-1]
    if named := [run_id for run_id in ids if name_of(run_id) == asked]:
        return named[-1]
    found = parted(asked, ids)
    if len(found) == 1:
        return found[0]
    if found:
        raise StoreError(
            f"'{asked}' means {len(found)} runs: {listed(found)}",
            "write more of the id; 'specbench runs' lists all runs",
        )
    raise StoreError(
        f"there is no run '{asked}' in {folder}", nearest(asked, ids[-20:], "'specbench runs' lists all runs")
    )


def parted(asked: str, ids: Sequence[str]) -> list[str]:
    """The ids that begin or end with what is asked for."""
    return [each for each in ids if asked and (each.startswith(asked) or each.endswith(asked))]


def listed(ids: Sequence[str]) -> str:
    """The newest of some ids, and how many more there are."""
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return f"{', '.join(ids[-SHOWN:])}{more}"
