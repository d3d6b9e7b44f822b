"""Which turns of a conversation can be asked, once the replies before them are known."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from specbench.api import Request
from specbench.benchmark.preparation import Prepared
from specbench.errors import SpecbenchError
from specbench.results.records import Prompt, Refusal

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
