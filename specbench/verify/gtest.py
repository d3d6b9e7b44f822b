"""G-tests of counts: against a distribution, of two samples, and what they would have found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

SIGNIFICANCE, POWER = 1e-3, 0.95
LEAST_EXPECTED = 5.0
REST = object()
"""What a distribution leaves to tokens that it does not name."""


@dataclass(frozen=True)
class Table:
    """Counts against what was expected.

    Args:
        statistic: G; `freedom` its degrees of freedom.
        weight: samples, as they count for the power: of two samples, n m / (n + m).
    """

    statistic: float
    freedom: int
    weight: float
    distance: float


def detectable(freedom: int, weight: float) -> float:
    """The total variation that a G-test finds with 95 %, however the shift is spread.

    A shift by d moves the noncentrality by at least 4 d^2 a sample (Cauchy-Schwarz, with half of the mass on
    either side).
    """
    from scipy import optimize, stats

    limit = stats.chi2.isf(SIGNIFICANCE, freedom)

    def lacking(noncentrality: float) -> float:
        return float(stats.ncx2.sf(limit, freedom, noncentrality)) - POWER

    needed = optimize.brentq(lacking, 1e-9, 100 * (limit + 50))
    return min(1.0, math.sqrt(needed / (4 * weight)))


def against(counts: Counter, stated: Mapping[Hashable, float]) -> list[Table]:
    """One table of counts against a distribution, rare tokens as one; none where nothing is left to compare."""
    size = counts.total()
    large = {token for token, share in stated.items() if token is not REST and share * size >= LEAST_EXPECTED}
    cells = [(counts[token], stated[token] * size) for token in large]
    rest = size - sum(expected for _, expected in cells)
    seen = size - sum(count for count, _ in cells)
    if rest >= 1 or seen:
        cells.append((seen, max(rest, 0.5)))
    if len(cells) < 2:
        return []
    statistic = 2 * sum(count * math.log(count / expected) for count, expected in cells if count)
    distance = sum(abs(count - expected) for count, expected in cells) / (2 * size)
    return [Table(max(0.0, statistic), len(cells) - 1, size, distance)]


def two_samples(ours: Counter, theirs: Counter) -> list[Table]:
    """One table of two samples, rare ones counted as one; none where nothing is left to compare."""
    sizes = ours.total(), theirs.total()
    both = ours + theirs
    share = min(sizes) / sum(sizes)
    large = [key for key, count in both.items() if count * share >= LEAST_EXPECTED]
    cells = [(ours[key], theirs[key]) for key in large]
    rest = tuple(size - sum(cell[side] for cell in cells) for side, size in enumerate(sizes))
    if sum(rest):
        cells.append((rest[0], rest[1]))
    if len(cells) < 2:
        return []
    statistic = distance = 0.0
    for cell in cells:
        for count, size in zip(cell, sizes, strict=True):
            if count:
                statistic += 2 * count * math.log(count * sum(sizes) / (sum(cell) * size))
        distance += abs(cell[0] / sizes[0] - cell[1] / sizes[1]) / 2
    return [Table(statistic, len(cells) - 1, sizes[0] * sizes[1] / sum(sizes), distance)]


def summed(tables: Sequence[Table]) -> Table:
    """Independent tables as one."""
    weight = sum(each.weight for each in tables)
    return Table(
        sum(each.statistic for each in tables),
        sum(each.freedom for each in tables),
        weight,
        sum(each.distance * each.weight for each in tables) / weight,
    )


def p_value(table: Table) -> float:
    """Of the hypothesis that nothing differs."""
    from scipy import stats

    return float(stats.chi2.sf(table.statistic, table.freedom))
