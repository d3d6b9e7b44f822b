"""How near an engine comes to the limit that memory sets: bandwidth divided by bytes of weights."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specbench.clock import now_ms

if TYPE_CHECKING:
    from specbench.factories import CloudModel, EdgeModel

PROMPT_TOKENS = 48
DECODED_TOKENS = 32


@dataclass(frozen=True)
class Ceiling:
    """What memory allows one model on one device.

    `weight_bytes` are read for every token; `None` where that depends on the token (experts).
    """

    weight_bytes: int | None
    bytes_per_second: float

    @property
    def tokens_per_second(self) -> float | None:
        """The limit of decoding token by token."""
        return self.bytes_per_second / self.weight_bytes if self.weight_bytes else None


def ceiling_of(factory: EdgeModel | CloudModel) -> Ceiling:
    """The ceiling of a role's model, loaded if need be; under a second, never to be called on the clock.

    Bandwidth is a measurement and differs from run to run: it is no part of what makes runs comparable.
    """
    import torch

    from specbench.decoding.bandwidth import read_bandwidth, weight_bytes

    loaded = factory.engine.loaded
    return Ceiling(weight_bytes(loaded.model), read_bandwidth(str(loaded.device), torch.get_num_threads()))


def share_of_ceiling(ceiling: Ceiling, ms_per_token: float | None) -> float | None:
    """The part of the memory ceiling that a time per token reaches; speculation may pass 1.

    Returns:
        `None` where either is not known.
    """
    limit = ceiling.tokens_per_second
    return 1000 / ms_per_token / limit if ms_per_token and limit else None


def decoding_ms(factory: EdgeModel | CloudModel) -> float:
    """Median milliseconds per token of a short greedy decode, token by token, by the profile's engine."""
    from specbench.config import Decoding
    from specbench.decoding.request import Request

    size = factory.engine.vocabulary_size
    prompt = tuple(range(min(4, size - 1), min(4 + PROMPT_TOKENS, size)))
    target, times = factory.target(Decoding()), []
    for budget in (4, DECODED_TOKENS):  # the first is a warm-up
        target.begin(Request(prompt, budget, frozenset()))
        times = []
        while target.remaining:
            started = now_ms()
            target.verify()
            times.append(now_ms() - started)
    return statistics.median(times)
