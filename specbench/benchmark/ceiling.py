"""How near an engine comes to the limit that memory sets."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from specbench.errors import CloudLostError, is_out_of_memory
from specbench.results.ceilings import Ceiling, Reading

if TYPE_CHECKING:
    from specbench.cloud import CloudModel, EdgeModel

logger = logging.getLogger(__name__)

PROMPT_TOKENS = 48
DECODED_TOKENS = 32


class CeilingWatch:
    """Measures what memory allows each model: before a run, and beside each prompt, for memory's speed drifts.

    Args:
        factories: of loaded models. A server that others may use has measured its memory once.
        known: what earlier sittings of the run measured, by role.
    """

    def __init__(
        self,
        factories: Sequence[EdgeModel | CloudModel],
        known: Mapping[str, Ceiling],
    ) -> None:
        self._ceilings = dict(known)
        if any(factory.measures_memory for factory in factories):
            logger.info("measuring memory bandwidth")
        for factory in factories:
            ceiling = factory.ceiling()
            if ceiling and factory.role not in known:
                self._ceilings[factory.role] = ceiling
        # Without a size to read there is no ceiling, and nothing to measure it for.
        asked = [factory for factory in factories if factory.measures_memory]
        self._asked = [each for each in asked if self._ceilings[each.role].weight_bytes]
        self._last: tuple[str, int] | None = None

    @property
    def found(self) -> dict[str, Ceiling]:
        """What is known so far, by role; the speed of memory is the median of what was read beside prompts."""
        return {
            role: replace(
                ceiling,
                bytes_per_second=statistics.median(reading.bytes_per_second for reading in ceiling.readings),
            )
            if ceiling.readings
            else ceiling
            for role, ceiling in self._ceilings.items()
        }

    def look(self, prompt_id: str, repeat: int) -> None:
        """Measure, off the clock, unless this prompt has been measured: all methods are asked it in a row."""
        if self._last == (prompt_id, repeat):
            return
        self._last = prompt_id, repeat
        for factory in self._asked:
            try:
                now = factory.ceiling()
            except Exception as error:
                if isinstance(error, CloudLostError) or is_out_of_memory(error):
                    continue  # no run ends for a figure
                raise
            if now is None:
                continue  # a server of another kind shows nothing of its memory
            before = self._ceilings[factory.role]
            reading = Reading(prompt_id, repeat, now.bytes_per_second)
            self._ceilings[factory.role] = replace(before, readings=(*before.readings, reading))


def decoding_ms(factory: EdgeModel | CloudModel, vocabulary_size: int) -> float:
    """Median milliseconds per token of a short greedy decode, token by token, where the model runs.

    Args:
        vocabulary_size: ids that the model knows.
    """
    from specbench.profile import Decoding, Options, Speculative
    from specbench.speculation.request import Request

    size = vocabulary_size
    prompt = tuple(range(min(4, size - 1), min(4 + PROMPT_TOKENS, size)))
    target = factory.target(Options(Decoding(), Speculative()))
    times: list[float] = []
    for budget in (4, DECODED_TOKENS):  # the first is a warm-up
        target.begin(Request(prompt, budget, frozenset()))
        times = [commit.verify_ms for commit in target.decode() if commit.verify_ms is not None]
    return statistics.median(times)
