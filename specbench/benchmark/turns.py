"""What a run asks: all prompts in a seeded order, and of a conversation the turns that can be asked."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Sequence

from specbench.api import Request
from specbench.benchmark.preparation import Prepared
from specbench.errors import SpecbenchError
from specbench.results.records import Generation, Prompt, Refusal

logger = logging.getLogger(__name__)


class Turns:
    """Requests of a run's prompts. A later turn that one method cannot be asked, no other method is asked.

    Args:
        refusals: of earlier sittings.
    """

    def __init__(self, prepared: Prepared, refusals: Iterable[Refusal]) -> None:
        self._prepared = prepared
        self._refusals = {(part.prompt_id, part.repeat): part for part in refusals}

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """The first turn of each prompt that cannot be asked."""
        return tuple(self._refusals.values())

    def request(self, prompt: Prompt, turn: int, repeat: int, replies: Sequence[str]) -> Request | None:
        """What is asked in a turn; `None` where it cannot be, behind these replies or another method's.

        Raises:
            SpecbenchError: the first turn cannot be asked.
        """
        known = self._refusals.get((prompt.prompt_id, repeat))
        if known and known.turn <= turn:
            return None
        try:
            return self._prepared.request(prompt, turn, repeat, replies)
        except SpecbenchError as error:
            if turn == 0:
                raise
            self._refusals[prompt.prompt_id, repeat] = Refusal(prompt.prompt_id, turn, repeat, error.message)
            logger.info(f"turn {turn + 1} of prompt {prompt.prompt_id} is skipped: {error.message}")
            return None


def in_order(prepared: Prepared, answered: Iterable[Generation]) -> list[tuple[int, Prompt, str]]:
    """Repeats, prompts and methods in a seeded order; every prompt is asked of all methods in a row.

    Args:
        answered: what an earlier sitting has done is left out.
    """
    workload = prepared.profile.workload
    done = {(record.method, record.prompt_id, record.repeat) for record in answered}
    units: list[tuple[int, Prompt, str]] = []
    for repeat in prepared.asked_repeats:
        prompts = list(prepared.prompts)
        random.Random(f"{workload.seed}/{repeat}").shuffle(prompts)
        for prompt in prompts:
            names = [method.name for method in prepared.methods]
            random.Random(f"{workload.seed}/{repeat}/{prompt.prompt_id}").shuffle(names)
            units.extend(
                (repeat, prompt, name) for name in names if (name, prompt.prompt_id, repeat) not in done
            )
    return units
