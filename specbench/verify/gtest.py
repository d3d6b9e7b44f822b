"""G-tests of counts: against a distribution, of two samples, and what they would have found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
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
    """One table of counts against a distribution; none where nothing is left to compare.

    Tokens that are expected less than five times are counted with others about as likely.
    """
    size = counts.total()
    likely = sorted((token for token in stated if token is not REST), key=lambda each: -stated[each])
    cells = [(float(counts[token]), stated[token] * size) for token in likely]
    untold = size - sum(count for count, _ in cells)
    cells = _pooled([*cells, (untold, max(stated.get(REST, 0.0) * size, 1e-9))], lambda cell: cell[1])
    if len(cells) < 2:
        return []
    statistic = 2 * sum(count * math.log(count / expected) for count, expected in cells if count)
    distance = sum(abs(count - expected) for count, expected in cells) / (2 * size)
    return [Table(max(0.0, statistic), len(cells) - 1, size, distance)]


def two_samples(ours: Counter, theirs: Counter) -> list[Table]:
    """One table of two samples, as of `against`; what is likely is seen in both together."""
    sizes = ours.total(), theirs.total()
    both = ours + theirs
    share = min(sizes) / sum(sizes)
    likely = sorted(both, key=lambda each: (-both[each], repr(each)))
    cells = [(float(ours[key]), float(theirs[key])) for key in likely]
    cells = _pooled(cells, lambda cell: sum(cell) * share)
    if len(cells) < 2:
        return []
    statistic = distance = 0.0
    for cell in cells:
        for count, size in zip(cell, sizes, strict=True):
            if count:
                statistic += 2 * count * math.log(count * sum(sizes) / (sum(cell) * size))
        distance += abs(cell[0] / sizes[0] - cell[1] / sizes[1]) / 2
    return [Table(statistic, len(cells) - 1, sizes[0] * sizes[1] / sum(sizes), distance)]


def _pooled(
    cells: Sequence[tuple[float, float]], expected: Callable[[tuple[float, float]], float]
) -> list[tuple[float, float]]:
    """Neighbours together until five are expected; what is left over joins the last."""
    found: list[tuple[float, float]] = []
    held = (0.0, 0.0)
    for cell in cells:
        held = held[0] + cell[0], held[1] + cell[1]
        if expected(held) >= LEAST_EXPECTED:
            found.append(held)
            held = (0.0, 0.0)
    if found and any(held):
        found[-1] = found[-1][0] + held[0], found[-1][1] + held[1]
    return found


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
