"""What an observer of ciphertext sees of an answer, as numbers: sizes of messages, and when they arrived."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from specbench.results.records import Generation

LEADING = 8  # messages at the beginning of an answer that are looked at one by one


def has_bytes(record: Generation) -> bool:
    """Whether messages crossed whose sizes are known."""
    return any(part.bytes_up or part.bytes_down for part in record.rounds)


def features_of(records: Sequence[Generation], seen: str) -> np.ndarray:
    """A row for each answer; `seen` is what the observer uses, one of `SEEN`."""
    parts = [part for name, part in _PARTS.items() if seen in (name, ALL)]
    return np.array([[value for part in parts for value in part(record)] for record in records])


def _request(record: Generation) -> list[float]:
    return [float(np.log1p(record.rounds[0].bytes_up or 0)), float(np.log1p(record.arrival_ms[0]))]


def _sizes(record: Generation) -> list[float]:
    later = record.rounds[1:]
    return _series([part.bytes_up or 0 for part in later]) + _series([part.bytes_down or 0 for part in later])


def _times(record: Generation) -> list[float]:
    return _series(np.diff(record.arrival_ms))


def _series(values: Sequence[float] | np.ndarray) -> list[float]:
    """How many values there are, how they spread, and the first ones; behind the end, their mean."""
    known = np.log1p(np.maximum(values, 0)) if len(values) else np.zeros(1)
    mean = known.mean()
    first = np.append(known[:LEADING], np.full(max(0, LEADING - len(known)), mean))
    spread = (mean, known.std(), *np.quantile(known, (0.1, 0.5, 0.9)))
    return [float(each) for each in (np.log1p(len(values)), *spread, *first)]


ALL = "all"
_PARTS = {"request": _request, "sizes": _sizes, "times": _times}
SEEN = (*_PARTS, ALL)
"""The first message and the time to its answer; sizes of all later messages; times of these; all of it."""
