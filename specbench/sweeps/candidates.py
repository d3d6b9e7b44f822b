"""Settings that a tuning tries."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from specbench.results.records import Run

Settings = dict[str, object]


@dataclass(frozen=True)
class Candidate:
    """Settings that were measured, or left out.

    Args:
        tpot_ms: median over requests.
        speedup: over the control of the same run; of `edge.threads`, over the profile's own.
        interval: 95 %, corrected (Holm) over the candidates, of which the best is picked.
        predicted: speed-up by the replay; `None` without one.
        fault: why it cannot be chosen.
    """

    settings: Settings
    tpot_ms: float | None = None
    speedup: float | None = None
    interval: tuple[float, float] | None = None
    predicted: float | None = None
    fault: str | None = None


def in_words(settings: Mapping[str, object]) -> str:
    """Settings by the last part of their keys, as names of candidates have them; two alike by the whole key."""
    lasts = {key: key.rpartition(".")[2] for key in settings}
    times = Counter(lasts.values())
    names = {key: last if times[last] == 1 else key for key, last in lasts.items()}
    return ",".join(f"{names[key]}={'null' if value is None else value}" for key, value in settings.items())


def tpot_ms(run: Run, name: str) -> float | None:
    """Median time per output token of a method's answers; `None` where none is long enough."""
    known = [record.tpot_ms for record in run.of(name) if record.tpot_ms]
    return statistics.median(known) if known else None
