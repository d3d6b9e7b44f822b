"""The fastest, the cheapest and the greenest way of a grid, and where they are not the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specbench.forecast.grid import Row, best, winner
from specbench.forecast.replay import Length

FASTEST, CHEAPEST, GREENEST = "fastest", "cheapest", "greenest"
LEAST = {CHEAPEST: "cost_per_million", GREENEST: "joules_per_token"}
"""The figure of a row, or of a `Modelled`, of which an objective wants the least."""


@dataclass(frozen=True)
class Choice:
    """What is best under one condition; `None` where it is unknown.

    Args:
        draft_length: `None` for the cloud alone.
        ms_per_token: `joules_per_token` and `cost_per_million` as of `Row`.
    """

    method: str
    draft_length: Length | None
    ms_per_token: float
    joules_per_token: float | None
    cost_per_million: float | None


@dataclass(frozen=True)
class Choices:
    """The best choices under one condition."""

    condition: dict[str, object]
    fastest: Choice | None
    cheapest: Choice | None
    greenest: Choice | None

    @property
    def known(self) -> dict[str, Choice]:
        """Those that are known, by objective."""
        found = {FASTEST: self.fastest, CHEAPEST: self.cheapest, GREENEST: self.greenest}
        return {name: choice for name, choice in found.items() if choice}

    @property
    def agree(self) -> bool:
        """Whether all of them are one method."""
        return len({choice.method for choice in self.known.values()}) < 2


def choices(rows: Sequence[Row]) -> list[Choices]:
    """What is best under each condition; empty where the rows say nothing of energy or money."""
    if all(getattr(row, figure) is None for row in rows for figure in LEAST.values()):
        return []
    ways = zip(best(rows), *(best_by(rows, figure) for figure in LEAST.values()), strict=True)
    return [
        Choices(
            dict(next(iter(fast.values())).condition), *map(_choice, (winner(fast), least(cheap), least(green)))
        )
        for fast, cheap, green in ways
    ]


def best_by(rows: Sequence[Row], figure: str) -> list[dict[str, tuple[float, Row]]]:
    """Of each condition, in the order given: by method, the least that it takes, and its row."""
    found: dict[str, dict[str, tuple[float, Row]]] = {}
    for row in rows:
        known = found.setdefault(json.dumps(list(row.condition.values())), {})
        value = getattr(row, figure)
        if value is not None and (row.method not in known or value < known[row.method][0]):
            known[row.method] = value, row
    return list(found.values())


def least(by_method: Mapping[str, tuple[float, Row]]) -> Row | None:
    """The row that takes least and says the cloud's text."""
    known = [each for each in by_method.values() if each[1].lossless is not None]
    return min(known, key=lambda each: each[0])[1] if known else None


def _choice(row: Row | None) -> Choice | None:
    if row is None:
        return None
    return Choice(row.method, row.draft_length, row.ms_per_token, row.joules_per_token, row.cost_per_million)
