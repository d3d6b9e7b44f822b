"""Up to which round trip each method pays, read off a grid that varies it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from math import log

from specbench.forecast.grid import Row, best

RTT = "link.rtt_ms"


@dataclass(frozen=True)
class BreakEven:
    """Where one method, at the draft length that is best at each round trip, is as fast as the cloud alone.

    Args:
        condition: the values of the other keys that were varied.
        rtt_ms: on a line between two round trips of the grid; `None` where it is slower at the shortest, and
            where `undecided`.
        beyond: it is still faster at the longest one, which `rtt_ms` then is.
        undecided: it was measured, and an interval that holds 1, or a missing one, lies in the way.
        shown_ms: the longest round trip of the grid up to which it was faster at each, beyond doubt where it
            was measured; `None` where it was not so at the shortest.
    """

    method: str
    condition: dict[str, object]
    rtt_ms: float | None
    beyond: bool = False
    undecided: bool = False
    shown_ms: float | None = None


def break_evens(rows: Sequence[Row]) -> list[BreakEven]:
    """The break-even map: of every method that says the cloud's text, under every other condition.

    Empty where no round trip is varied. Speed-ups are interpolated on a logarithmic scale.
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
    points = sorted(((float(str(row.condition[RTT])), row) for row in rows), key=lambda point: point[0])
    paying = list(takewhile(lambda point: point[1].pays, points))
    if not paying:
        return BreakEven(method, condition, None, undecided=points[0][1].is_open)
    shown_ms, last = paying[-1]
    if len(paying) == len(points):
        return BreakEven(method, condition, shown_ms, beyond=True, shown_ms=shown_ms)
    next_ms, lost = points[len(paying)]
    if lost.is_open:
        return BreakEven(method, condition, None, undecided=True, shown_ms=shown_ms)
    high, low = log(last.speedup), log(lost.speedup)
    rtt_ms = shown_ms + (next_ms - shown_ms) * high / (high - low)
    return BreakEven(method, condition, rtt_ms, shown_ms=shown_ms)
