"""Latency percentiles, only those that the samples allow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from specbench.results.records import Generation

PERCENTILES = (50, 90, 95, 99)
BEYOND = 10


def samples_needed(percent: int) -> int:
    """How many samples a percentile takes: enough that ten lie beyond it."""
    return math.ceil(BEYOND * 100 / (100 - percent))


def percentiles(records: Sequence[Generation]) -> dict[str, dict[str, float]]:
    """TTFT, TPOT, time between chunks as they arrived, and end-to-end time, in milliseconds.

    A chunk is what one round committed; its tokens are not given invented times of their own.
    """
    samples = {
        "ttft_ms": [record.ttft_ms for record in records],
        "tpot_ms": [record.tpot_ms for record in records if record.tpot_ms is not None],
        "chunk_ms": [gap for record in records for gap in chunk_gaps_ms(record)],
        "total_ms": [record.total_ms for record in records],
    }
    return {name: known_percentiles(values) for name, values in samples.items()}


def known_percentiles(values: Sequence[float]) -> dict[str, float]:
    """The percentiles that so many samples allow."""
    return {
        f"p{percent}": float(np.percentile(values, percent))
        for percent in PERCENTILES
        if len(values) >= samples_needed(percent)
    }


def chunk_gaps_ms(record: Generation) -> list[float]:
    """Time between one committed chunk and the next."""
    return np.diff(record.arrival_ms).tolist()
