"""How near an engine comes to the limit that memory sets."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from specbench.clock import now_ms

if TYPE_CHECKING:
    from specbench.factories import CloudModel, EdgeModel

PROMPT_TOKENS = 48
DECODED_TOKENS = 32


def decoding_ms(factory: EdgeModel | CloudModel) -> float:
    """Median milliseconds per token of a short greedy decode, token by token, by the profile's engine."""
    from specbench.config import Decoding, Options, Speculative
    from specbench.decoding.request import Request

    size = factory.engine.vocabulary_size
    prompt = tuple(range(min(4, size - 1), min(4 + PROMPT_TOKENS, size)))
    target, times = factory.target(Options(Decoding(), Speculative())), []
    for budget in (4, DECODED_TOKENS):  # the first is a warm-up
        target.begin(Request(prompt, budget, frozenset()))
        times = []
        while target.remaining:
            started = now_ms()
            target.verify()
            times.append(now_ms() - started)
    return statistics.median(times)
