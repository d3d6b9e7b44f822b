"""Energy and money of a comparison, as tables: columns, and for each method its cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from specbench.results.derived import Comparison, MethodSummary

ENERGY_COLUMNS = ("of", "counted by", "J\na token", "above idle\nJ a token", "idle\nW")
ENERGY_FOOT = (
    "Energy: measured by the counters named, over all committed tokens, prefill included. Above idle: without "
    "what they say while nothing is computed. Energy of edge and cloud is joint where they share a counter."
)


@dataclass(frozen=True)
class Spent:
    """A table of what methods take; the first `words` of its columns are words."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[MethodSummary, tuple[str, ...]], ...]
    foot: str
    words: int = 0


def spending(comparison: Comparison) -> Iterator[Spent]:
    """The tables of which a figure is known."""
    energy = tuple(
        (
            row,
            (
                " and ".join(each.roles),
                ", ".join(each.counters),
                _figure(each.joules_per_token),
                _figure(each.above_idle_joules_per_token),
                _figure(each.idle_watts),
            ),
        )
        for row in comparison.methods
        for each in row.energy
    )
    if energy:
        yield Spent("energy", ENERGY_COLUMNS, energy, ENERGY_FOOT, words=2)
    priced = [row for row in comparison.methods if row.money]
    if priced:
        yield _money(priced)


def _money(priced: list[MethodSummary]) -> Spent:
    first = priced[0].money
    assert first is not None
    columns = ("reserved", "95 %\ninterval", "cloud\nshared", "95 %\ninterval ")
    rows = tuple(
        (
            row,
            (
                _figure(row.money.reserved),
                _interval(row.money.reserved_interval),
                _figure(row.money.shared),
                _interval(row.money.shared_interval),
            ),
        )
        for row in priced
        if row.money
    )
    foot = (
        "Money: by measured time and the profile's prices, prefill included. Reserved: edge and cloud are paid "
        "for from request to last token. Cloud shared: the cloud is paid for the time it computes."
    )
    if left_out := dict.fromkeys(name for row in priced if row.money for name in row.money.unpriced):
        foot += f" No part of it, without a price or without counted bytes: {', '.join(left_out)}."
    if first.api is not None:
        foot += f" A provider asks {first.api:g} {first.currency} for a million tokens of the target."
    return Spent(f"{first.currency} for a million tokens", columns, rows, foot)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{_figure(interval[0])} to {_figure(interval[1])}"
