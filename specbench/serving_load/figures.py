"""Figures of a load: throughput, latency, the server's computing time, and how many edges it sustains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from specbench.results.records import Round
from specbench.serving_load.edges import COLOCATED, Answer
from specbench.stats.latency import known_percentiles


@dataclass(frozen=True)
class LoadRow:
    """One way to serve the same edges.

    Args:
        tokens_per_s: all tokens over the time in which all was answered.
        ttft_ms: percentiles since the request came to its edge, where it may have waited for the one before.
        tpot_ms: percentiles over requests, behind the first token; `total_ms` of whole requests.
        target_busy: share of the time in which the server computed for these edges.
        target_s_per_1000: seconds of the server's computing per thousand tokens, prompts and drafts included.
        decode_ms: of the server's computing per token behind the first.
        accepted_per_target_s: drafted tokens that were accepted, per second of the server's computing.
        texts_per_pass: how many were read together, in the mean; by a batch-invariant engine in several passes
            where they are more than 65 rows.
        within: edges whose median time per token keeps to the objective; one that got single tokens does.
        capacity: edges at the objective's pace that would keep the server busy: its time over `decode_ms`.
        ties: texts that differ from those of the server decoding alone, as a near-tie allows; `departed` those
            that no tie explains. `None` where texts may differ by their rule, or nothing is proven.
    """

    way: str
    edges: int
    requests: int
    tokens: int
    seconds: float
    tokens_per_s: float
    ttft_ms: dict[str, float]
    tpot_ms: dict[str, float]
    total_ms: dict[str, float]
    target_busy: float
    target_s_per_1000: float
    decode_ms: float
    accepted_per_target_s: float | None
    texts_per_pass: float
    within: int
    capacity: float
    ties: int | None
    departed: int | None


@dataclass(frozen=True)
class Capacity:
    """How many times as many edges a server sustains if the edges draft instead of the server.

    Args:
        draft_length: tokens of a draft that the server made, in the mean.
        draft_ms: the server's time for one of them; `verify_ms` for a verification, its share of the pass.
        predicted: 1 + draft_length * draft_ms / verify_ms (arXiv 2606.25091, abstract).
        measured: by the server's own times, the ratio of `LoadRow.decode_ms`; no objective is in it.
    """

    draft_length: float
    draft_ms: float
    verify_ms: float
    predicted: float
    measured: float


def _verify_ms(part: Round) -> float:
    """What a verification took of the server's time: its share of the pass, and what was done for it alone."""
    pass_ms = part.pass_ms or 0.0
    return pass_ms / (part.shared or 1) + (part.verify_ms or 0.0) - pass_ms


def _server_ms(parts: Iterable[Round], way: str) -> float:
    """What rounds took of the server's time, their drafts included where they were made there."""
    return sum(_verify_ms(part) + ((part.draft_ms or 0.0) if way == COLOCATED else 0.0) for part in parts)


def tpot_median(answers: Sequence[Answer]) -> float | None:
    """Over requests; `None` where none has a second token."""
    known = [one.generation.tpot_ms for one in answers if one.generation.tpot_ms is not None]
    return median(known) if known else None


def load_row(
    way: str, answers: Sequence[Answer], objective_ms: float, departures: tuple[int, int] | None
) -> LoadRow:
    """Summarise what all edges saw.

    Args:
        objective_ms: per token behind the first.
        departures: ties, and others, where that is known.
    """
    generations = [one.generation for one in answers]
    seconds = max(one.ended_ms for one in answers) / 1000
    tokens = sum(len(record.tokens) for record in generations)
    following = tokens - sum(len(record.rounds[0].tokens) for record in generations)
    decoding = [part for record in generations for part in record.rounds[1:]]
    decode_ms = _server_ms(decoding, way)
    target_ms = decode_ms + _server_ms((record.rounds[0] for record in generations), way)
    drafted = sum(part.drafted or 0 for part in decoding)
    accepted = sum(part.accepted or 0 for part in decoding)
    per_token_ms = decode_ms / following if following else 0.0
    by_edge: dict[int, list[Answer]] = {}
    for one in answers:
        by_edge.setdefault(one.edge, []).append(one)
    medians = [tpot_median(own) for own in by_edge.values()]
    ties, departed = departures or (None, None)
    return LoadRow(
        way=way,
        edges=len(by_edge),
        requests=len(answers),
        tokens=tokens,
        seconds=seconds,
        tokens_per_s=tokens / seconds,
        ttft_ms=known_percentiles([record.ttft_ms for record in generations]),
        tpot_ms=known_percentiles([record.tpot_ms for record in generations if record.tpot_ms is not None]),
        total_ms=known_percentiles([record.total_ms for record in generations]),
        target_busy=target_ms / 1000 / seconds,
        target_s_per_1000=target_ms / tokens,
        decode_ms=per_token_ms,
        accepted_per_target_s=1000 * accepted / target_ms if drafted else None,
        texts_per_pass=len(decoding) / sum(1 / (part.shared or 1) for part in decoding) if decoding else 1.0,
        within=sum(value is None or value <= objective_ms for value in medians),
        capacity=objective_ms / per_token_ms if per_token_ms else 0.0,
        ties=ties,
        departed=departed,
    )


def capacity(at_edge: LoadRow, colocated: LoadRow, answers: Sequence[Answer]) -> Capacity | None:
    """The predicted and the measured gain of drafting at the edges.

    Args:
        answers: of co-located drafting; `None` is returned where nothing was drafted there.
    """
    steps = [part for one in answers for part in one.generation.rounds[1:] if part.drafted]
    drafted = sum(part.drafted or 0 for part in steps)
    if not drafted or not at_edge.capacity or not colocated.capacity:
        return None
    length = drafted / len(steps)
    draft_ms = sum(part.draft_ms or 0.0 for part in steps) / drafted
    verify_ms = sum(map(_verify_ms, steps)) / len(steps)
    return Capacity(
        draft_length=length,
        draft_ms=draft_ms,
        verify_ms=verify_ms,
        predicted=1 + length * draft_ms / verify_ms,
        measured=at_edge.capacity / colocated.capacity,
    )
