"""How near an engine comes to the limit that memory sets: bandwidth divided by bytes of weights."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from specbench.clock import now_ms
from specbench.records import Ceiling

if TYPE_CHECKING:
    from specbench.factories import CloudModel, EdgeModel

PROMPT_TOKENS = 48
DECODED_TOKENS = 32


def ceiling_of(factory: EdgeModel | CloudModel) -> Ceiling:
    """The ceiling of a role's model, loaded if need be; under a second, never to be called on the clock."""
    import torch

    from specbench.decoding.bandwidth import has_own_reader, read_bandwidth, weight_bytes

    loaded = factory.engine.loaded
    device = str(loaded.device)
    reader = "torch or own kernel" if has_own_reader(device) else "torch"
    return Ceiling(weight_bytes(loaded.model), read_bandwidth(device, torch.get_num_threads()), reader)


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
