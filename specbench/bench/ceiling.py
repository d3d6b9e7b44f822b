"""How near an engine comes to the limit that memory sets."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from specbench.factories import CloudModel, EdgeModel

PROMPT_TOKENS = 48
DECODED_TOKENS = 32


def decoding_ms(factory: EdgeModel | CloudModel, vocabulary_size: int) -> float:
    """Median milliseconds per token of a short greedy decode, token by token, where the model runs.

    Args:
        vocabulary_size: ids that the model knows.
    """
    from specbench.config import Decoding, Options, Speculative
    from specbench.decoding.request import Request

    size = vocabulary_size
    prompt = tuple(range(min(4, size - 1), min(4 + PROMPT_TOKENS, size)))
    target, times = factory.target(Options(Decoding(), Speculative())), []
    for budget in (4, DECODED_TOKENS):  # the first is a warm-up
        target.begin(Request(prompt, budget, frozenset()))
        times = [commit.verify_ms for commit in target.decode()]
    return statistics.median(times)
