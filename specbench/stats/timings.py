"""Times and memory by answer: the data of a report's charts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from specbench.results.records import Generation, Round, Run

PARTS = ("draft", "link", "verify", "other")


@dataclass(frozen=True)
class Samples:
    """Every latency of one method, an answer each; answers of a single chunk have no TPOT."""

    method: str
    ttft_ms: tuple[float, ...]
    tpot_ms: tuple[float, ...]


@dataclass(frozen=True)
class RoundTime:
    """What a mean round of one method was spent on; the first round of each answer (prefill) is left out.

    Args:
        tokens: committed in a round, on average.
        link_ms: both ways together; `None`, as any other part, where no round recorded it. Nobody waits for the
            link between the parts of a stream.
        other_ms: what no recorded part explains; `None` where no part was recorded, or where parts overlap.
    """

    method: str
    rounds: int
    tokens: float
    total_ms: float
    draft_ms: float | None
    link_ms: float | None
    verify_ms: float | None
    other_ms: float | None

    @property
    def ms_per_token(self) -> float:
        """Of the tokens that a mean round commits, the time of one."""
        return self.total_ms / self.tokens

    @property
    def parts_per_token(self) -> dict[str, float]:
        """The same by part, in milliseconds; what was not recorded is absent."""
        known = {part: getattr(self, f"{part}_ms") for part in PARTS}
        return {part: value / self.tokens for part, value in known.items() if value is not None}


@dataclass(frozen=True)
class MemoryAt:
    """Memory of the process when all methods of the run together had spent so much time answering."""

    busy_s: float
    rss_bytes: int
    cuda_bytes: int | None


@dataclass(frozen=True)
class MemoryPoint:
    """Memory of the process during one answer: its highest figures.

    Args:
        busy_s: time that all methods of the run had spent answering when this answer was finished.
        course: how it went meanwhile; empty in runs stored before it was kept.
    """

    method: str
    busy_s: float
    rss_bytes: int | None
    cuda_bytes: int | None
    course: tuple[MemoryAt, ...] = ()


def samples(method: str, records: Sequence[Generation]) -> Samples:
    """The latencies of one method."""
    tpot_ms = tuple(record.tpot_ms for record in records if record.tpot_ms is not None)
    return Samples(method, tuple(record.ttft_ms for record in records), tpot_ms)


def round_time(method: str, records: Sequence[Generation]) -> RoundTime | None:
    """Means over all rounds behind the first of each answer; `None` where there is none."""
    rounds = [part for record in records for part in record.rounds[1:]]
    if not rounds:
        return None
    total_ms = sum(after - before for record in records for before, after in pairwise(record.arrival_ms))

    def mean(field: Callable[[Round], float | None]) -> float | None:
        known = [value for part in rounds if (value := field(part)) is not None]
        return sum(known) / len(rounds) if known else None

    draft_ms = mean(lambda part: part.draft_ms)
    link_ms = mean(lambda part: part.link_ms)
    verify_ms = mean(lambda part: part.verify_ms)
    known = [part for part in (draft_ms, link_ms, verify_ms) if part is not None]
    other_ms = total_ms / len(rounds) - sum(known) if known else None
    return RoundTime(
        method=method,
        rounds=len(rounds),
        tokens=sum(len(part.tokens) for part in rounds) / len(rounds),
        total_ms=total_ms / len(rounds),
        draft_ms=draft_ms,
        link_ms=link_ms,
        verify_ms=verify_ms,
        other_ms=other_ms if other_ms is None or other_ms >= 0 else None,
    )


def memory_points(run: Run, names: dict[str, str]) -> list[MemoryPoint]:
    """Memory of each answer, in the order in which they were given.

    Args:
        names: what each method of this run is called in the tables.
    """
    points, busy_ms = [], 0.0
    for record in run.generations:
        if record.interrupted:
            continue  # a method of which nothing else is left has no name
        # A look behind the last token, or in a pause, is one at the end of the answer's own time.
        course = tuple(
            MemoryAt((busy_ms + min(look.at_ms, record.total_ms)) / 1000, look.rss_bytes, look.cuda_bytes)
            for look in record.memory
        )
        busy_ms += record.total_ms
        peaks = record.peak_rss_bytes, record.peak_cuda_bytes
        if peaks != (None, None):
            points.append(MemoryPoint(names[record.method], busy_ms / 1000, *peaks, course))
    return points
