"""How fast two servers stream, by the statistics of `specbench compare`."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Sequence

from specbench.results.records import Generation, Round
from specbench.servers.answers import Completion
from specbench.servers.base import Server
from specbench.stats import verdict
from specbench.verify.prompts import Asked
from specbench.verify.records import Speed


def speeds(
    server: Server, reference: Server | None, rows: Sequence[tuple[Asked, Completion | None, Completion]]
) -> list[Speed]:
    """Times of the server and, where there is one, of the reference, with the ratio of both.

    Args:
        rows: a prompt, the reference's streamed answer, and the server's.
    """
    ours = [found for asked, _, each in rows if (found := as_generation(server.url, asked, each))]
    if reference is None:
        return [_speed(server.url, ours)]
    theirs = [found for asked, each, _ in rows if each and (found := as_generation(reference.url, asked, each))]
    ratio = verdict.speedup(theirs, ours)
    return [_speed(reference.url, theirs), _speed(server.url, ours, ratio)]


def as_generation(url: str, asked: Asked, answer: Completion) -> Generation | None:
    """A streamed answer as the statistics take it; `None` where no token came.

    Where a server does not say how many tokens an event brings, its first one is taken to bring one.
    """
    parts = [part for part in answer.parts if part.size != 0]
    if not parts:
        return None
    sizes = [part.size for part in parts]
    if None in sizes:
        if answer.said is None or answer.said < len(parts) < 2:
            return None
        parts, sizes = [parts[0], parts[-1]], [1, answer.said - 1]
    rounds = tuple(Round((0,) * size) for size in sizes if size)
    return Generation(
        method=url,
        prompt_id=asked.prompt_id,
        category=asked.category,
        turn=0,
        turns=1,
        repeat=0,
        prompt_tokens=answer.prompt_tokens or 0,
        prompt_sha256=hashlib.sha256(repr(asked.question.prompt).encode()).hexdigest(),
        text="",
        finish_reason=answer.finish_reason or "",
        rounds=rounds,
        arrival_ms=tuple(part.at_ms for part in parts[: len(rounds)]),
    )


def _speed(url: str, records: Sequence[Generation], ratio: verdict.Speedup | None = None) -> Speed:
    tpots = [each.tpot_ms for each in records if each.tpot_ms is not None]
    return Speed(
        url,
        statistics.median(each.ttft_ms for each in records) if records else None,
        statistics.median(tpots) if tpots else None,
        verdict.tokens_per_second(records) if records else None,
        ratio.ratio if ratio else None,
        ratio.interval if ratio else None,
    )
