"""How fast servers are while several requests are under way, and whether they still say the same."""

from __future__ import annotations

import queue
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from specbench.clock import now_ms
from specbench.servers.answers import Completion
from specbench.servers.base import HttpServer
from specbench.verify.identity import first_difference
from specbench.verify.prompts import Asked
from specbench.verify.records import Load
from specbench.verify.speed import as_generation


def load(server: HttpServer, rows: Sequence[tuple[Asked, Completion]], concurrency: int) -> Load:
    """Ask every prompt again, `concurrency` at a time, each over a connection of its own.

    Args:
        rows: a prompt, and what the server answered when it was asked alone.
    """
    connections = [server.another() for _ in range(concurrency)]
    free: queue.SimpleQueue[HttpServer] = queue.SimpleQueue()
    for each in connections:
        free.put(each)

    def answer(asked: Asked) -> Completion:
        one = free.get()
        try:
            return one.stream(asked.question)
        finally:
            free.put(one)

    started = now_ms()
    try:
        with ThreadPoolExecutor(concurrency) as pool:
            answers = list(pool.map(answer, [asked for asked, _ in rows]))
    finally:
        for each in connections:
            each.client.close()
            server.client.retries += each.client.retries
    seconds = (now_ms() - started) / 1000
    both = list(zip(rows, answers, strict=True))
    found = [record for (asked, _), said in both if (record := as_generation(server.url, asked, said))]
    tpots = [each.tpot_ms for each in found if each.tpot_ms is not None]
    return Load(
        server.url,
        concurrency,
        statistics.median(each.ttft_ms for each in found) if found else None,
        statistics.median(tpots) if tpots else None,
        sum(len(each.tokens) for each in found) / seconds,
        sum(first_difference(alone, said) is not None for (_, alone), said in both),
    )
