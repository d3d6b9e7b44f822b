"""Figures of parts of a run: by length of the prompt, by position in the answer, by category."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from specbench.results.parts import CategoryAnswers, Stretch
from specbench.results.records import Generation, Manifest, Round
from specbench.stats import verdict
from specbench.stats.acceptance import acceptance_figures, drafting_rounds, length_interval
from specbench.stats.task_scores import answer_score
from specbench.stats.timings import round_time

CONTEXT, POSITION = "context", "position"
SHORTEST = 256
"""Prompts up to this length are one stretch, and each further one is twice as long."""
POSITIONS = 64
"""Tokens of an answer that are one stretch."""


def by_context(
    rows: Sequence[tuple[str, Sequence[Generation], Sequence[Generation]]],
) -> Iterator[Stretch]:
    """A stretch for each method and each doubling of the prompt's length; none where all are in one.

    Args:
        rows: a row's name, its records, and those of its control.
    """
    for name, records, control in rows:
        by_length: dict[int, list[Generation]] = defaultdict(list)
        for record in records:
            by_length[_longest(record.prompt_tokens)].append(record)
        if len(by_length) < 2:
            continue
        for longest, part in sorted(by_length.items()):
            beside = verdict.speedup(control, part) if control and control is not records else None
            known = [record.tpot_ms for record in part if record.tpot_ms is not None]
            reading = [record.rounds[0].draft_ms for record in part if record.rounds[0].draft_ms is not None]
            spent = round_time(name, part)
            yield Stretch(
                name,
                CONTEXT,
                first=1 if longest == SHORTEST else longest // 2 + 1,
                last=longest,
                answers=len(part),
                ttft_ms=statistics.median(record.ttft_ms for record in part),
                tpot_ms=statistics.median(known) if known else None,
                speedup=beside.ratio if beside else None,
                read_ms=statistics.median(reading) if reading else None,
                **{f"{of}_ms": value for of, value in (spent.parts_per_token if spent else {}).items()},
                length_interval=length_interval(part),
                **acceptance_figures(drafting_rounds(part)),
            )


def by_category(
    rows: Sequence[tuple[str, Sequence[Generation], Manifest]],
) -> Iterator[CategoryAnswers]:
    """Acceptance and scores of each method in each category; nothing where there is one alone.

    Args:
        rows: a row's name, its records, and the manifest of its run.
    """
    for name, records, manifest in rows:
        categories = dict.fromkeys(record.category for record in records)
        for category in categories if len(categories) > 1 else ():
            part = [record for record in records if record.category == category]
            known = [score for record in part if (score := answer_score(record, manifest.tasks)) is not None]
            if known or any(record.drafted for record in part):
                yield CategoryAnswers(
                    name,
                    category,
                    prompts=len({record.prompt_id for record in part}),
                    score=sum(known) / len(known) if known else None,
                    length_interval=length_interval(part),
                    **acceptance_figures(drafting_rounds(part)),
                )


@dataclass
class _Part:
    answers: int
    tokens: int
    elapsed_ms: float
    rounds: list[Round]


def by_position(rows: Sequence[tuple[str, Sequence[Generation], Sequence[Generation]]]) -> Iterator[Stretch]:
    """A stretch for each method and each 64 tokens of the answers; none where all are in one.

    The first round of an answer is left out, for it has no time of its own. A round belongs where its first
    token stands.
    """
    for name, records, _ in rows:
        parts: dict[int, _Part] = {}
        for record in records:
            place, met = len(record.rounds[0].tokens), set()
            times = zip(record.arrival_ms, record.arrival_ms[1:], strict=False)
            for part, (before_ms, arrived_ms) in zip(record.rounds[1:], times, strict=True):
                at = place // POSITIONS
                found = parts.setdefault(at, _Part(0, 0, 0.0, []))
                found.answers += at not in met
                found.tokens += len(part.tokens)
                found.elapsed_ms += arrived_ms - before_ms
                found.rounds.append(part)
                met.add(at)
                place += len(part.tokens)
        if len(parts) < 2:
            continue
        for at, found in sorted(parts.items()):
            yield Stretch(
                name,
                POSITION,
                first=at * POSITIONS + 1,
                last=(at + 1) * POSITIONS,
                answers=found.answers,
                tpot_ms=found.elapsed_ms / found.tokens,
                length_interval=None,  # rounds of one prompt stand in many of them
                **acceptance_figures([part for part in found.rounds if part.drafted]),
            )


def _longest(tokens: int) -> int:
    longest = SHORTEST
    while longest < tokens:
        longest *= 2
    return longest
