"""Up to which round trip each method pays, read off a grid that varies it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log

from specbench.analysis.grid import Row, best

RTT = "link.rtt_ms"


@dataclass(frozen=True)
class BreakEven:
    """Where one method, at the draft length that is best at each round trip, is as fast as the cloud alone.

    Args:
        condition: the values of the other keys that were varied.
        rtt_ms: on a line between two round trips of the grid; `None` where it is slower at the shortest.
        beyond: it is still faster at the longest one, which `rtt_ms` then is.
    """

    method: str
    condition: dict[str, object]
    rtt_ms: float | None
    beyond: bool = False


def break_evens(rows: Sequence[Row]) -> list[BreakEven]:
    """The break-even map: of every method that says the cloud's text, under every other condition.

    Empty where no round trip is varied.

    Speed-ups are interpolated on a logarithmic scale, and taken as they are, whatever their intervals.
    """
    if len({row.condition.get(RTT) for row in rows}) < 2:
        return []
    lines: dict[tuple[str, str], list[Row]] = {}
    for by_method in best(rows):
        for row in by_method.values():
            if row.competes and isinstance(row.condition.get(RTT), (int, float)):
                others = json.dumps({key: value for key, value in row.condition.items() if key != RTT})
                lines.setdefault((others, row.method), []).append(row)
    return [_crossing(method, json.loads(others), found) for (others, method), found in lines.items()]


def _crossing(method: str, condition: dict[str, object], rows: Sequence[Row]) -> BreakEven:
    points = sorted((float(str(row.condition[RTT])), log(row.speedup)) for row in rows)
    if points[-1][1] > 0:
        return BreakEven(method, condition, points[-1][0], beyond=True)
    for (left, high), (right, low) in reversed(list(pairwise(points))):
        if high > 0 >= low:
            return BreakEven(method, condition, left + (right - left) * high / (high - low))
    return BreakEven(method, condition, None)
