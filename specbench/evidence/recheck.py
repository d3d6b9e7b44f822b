"""Whether the figures and claims of a bundle follow from its raw rounds, by the specbench that is installed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from specbench.errors import SpecbenchError, StoreError
from specbench.evidence.bundle import Bundle, Maker, compared
from specbench.evidence.claims import Claim, answer

TOLERANCE = 1e-9
"""By how much, as a share, a figure may differ: other processors add floats in another order."""
SENTENCES = (
    *("statement", "label", "notes", "background", "warnings", "faults", "unfair", "setting", "told_runs"),
    *("unverified", "ceiling_fault", "explained_by", "error", "traceback"),
)
"""Keys of the comparison that hold words about figures: another version may word them anew."""
MISSING = "nothing"


@dataclass(frozen=True)
class Difference:
    """A figure, by its place in the comparison's JSON or by its claim: as the bundle says, and as found."""

    figure: str
    claimed: object
    found: object

    @property
    def in_words(self) -> str:
        """As a sentence."""
        return f"{self.figure} is {self.claimed} in the bundle, and its rounds give {self.found}"


@dataclass(frozen=True)
class Rechecked:
    """What came of it.

    Args:
        figures: how many figures of the comparison were computed again.
        changed: files that are not as they were bundled, and answers that are missing or double, in sentences.
    """

    made_by: Maker
    checked_by: Maker
    claims: tuple[Claim, ...]
    figures: int
    differences: tuple[Difference, ...]
    changed: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether all is as the bundle says."""
        return not (self.differences or self.changed)


def recheck(found: Bundle) -> Rechecked:
    """Compute every figure and claim of a bundle again.

    Raises:
        SpecbenchError: its runs cannot be compared.
    """
    # What is wrong with a file is told beside the figures that it changes, and not in their place.
    runs = [replace(run, faults=()) for run in found.runs]
    try:
        document = compared(runs, found.allow_unfair)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise StoreError(
            f"the bundle's runs cannot be compared: {type(error).__name__}: {error}", "make the bundle again"
        ) from error
    pairs = list(_pairs(found.document, document, ""))
    differences = [Difference(*each) for each in pairs if not _same(*each[1:])]
    for claim in found.claims:
        differences += _of_claim(claim, document)
    faults = [fault for run in found.runs for fault in run.faults]
    return Rechecked(
        found.made_by,
        Maker.here(),
        found.claims,
        len(pairs),
        tuple(differences),
        tuple(dict.fromkeys((*found.changed, *faults))),
    )


def _of_claim(claim: Claim, document: dict[str, Any]) -> Iterator[Difference]:
    try:
        value, interval = answer(claim.query, document, f"claim {claim.id}")
    except SpecbenchError:
        yield Difference(f"claim {claim.id}", claim.value, MISSING)
        return
    if not _same(claim.value, value):
        yield Difference(f"claim {claim.id}", claim.value, value)
    ends = [list(each) if each else None for each in (claim.interval, interval)]
    if not _same(*ends):
        yield Difference(f"the interval of claim {claim.id}", *ends)


def _pairs(claimed: Any, found: Any, place: str) -> Iterator[tuple[str, object, object]]:
    """Every figure of a document beside the one that was computed; rows that only one of them has too."""
    if isinstance(claimed, dict) and isinstance(found, dict):
        added = [key for key in found if key not in claimed] if place == "methods" else []
        for key in [*claimed, *added]:
            if key not in SENTENCES:
                below = f"{place}/{key}" if place else key
                yield from _pairs(claimed.get(key, MISSING), found.get(key, MISSING), below)
    elif isinstance(claimed, list) and isinstance(found, list):
        if len(claimed) != len(found):
            yield f"the number of {place}", len(claimed), len(found)
        for number, both in enumerate(zip(claimed, found, strict=False)):
            yield from _pairs(*both, f"{place}/{_name(both[1], number)}")
    else:
        yield place, _brief(claimed), _brief(found)


def _name(entry: object, number: int) -> str:
    """What an entry of a list is called: by its method and what else tells it, or by its number."""
    if not isinstance(entry, dict) or "method" not in entry:
        return str(number)
    keys = ("method", "category", "of", "first", "prompt_id", "turn", "repeat")
    return "/".join(f"{key}={entry[key]}" for key in keys if entry.get(key) is not None)


def _brief(value: object) -> object:
    return f"{len(value)} entries" if isinstance(value, (dict, list)) else value


def _same(claimed: object, found: object) -> bool:
    if isinstance(claimed, list) and isinstance(found, list):
        return len(claimed) == len(found) and all(map(_same, claimed, found))
    numbers = [
        each for each in (claimed, found) if isinstance(each, (int, float)) and not isinstance(each, bool)
    ]
    if len(numbers) == 2:
        return math.isclose(*numbers, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(claimed) is type(found) and claimed == found
