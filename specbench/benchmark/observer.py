"""Who watches a run, and what is shown of how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from specbench.benchmark.telemetry import MemoryMonitor
from specbench.results.records import Failure, Generation, Round


@dataclass(frozen=True)
class Progress:
    """How far one method is; a snapshot, made after every round.

    Args:
        finished: the records of the prompt that this snapshot ends; at the start, those of earlier sittings.
    """

    method: str
    prompts_done: int
    prompts_total: int
    tokens: int = 0
    busy_ms: float = 0.0
    drafted: int = 0
    accepted: int = 0
    finished: tuple[Generation, ...] = ()

    def after_round(self, part: Round, step_ms: float) -> Progress:
        """The same, one round later."""
        return replace(
            self,
            tokens=self.tokens + len(part.tokens),
            busy_ms=self.busy_ms + step_ms,
            drafted=self.drafted + (part.drafted or 0),
            accepted=self.accepted + (part.accepted or 0),
            finished=(),
        )

    def after_prompt(self, records: Sequence[Generation]) -> Progress:
        """The same, once a prompt is answered."""
        return replace(self, prompts_done=self.prompts_done + 1, finished=tuple(records))


class Observer(Protocol):
    """Who watches a run. Calls are made off the clock and must return at once."""

    def started(self, progress: Sequence[Progress], monitor: MemoryMonitor) -> None:
        """Timing begins."""

    def advanced(self, progress: Progress) -> None:
        """Tokens were committed, or a prompt was finished."""

    def failed(self, failure: Failure) -> None:
        """A method stopped with an error."""

    def close(self) -> None:
        """Timing is over; it may begin once more, for a draft length is tuned before."""


class Unobserved:
    """Nobody watches."""

    def started(self, progress: Sequence[Progress], monitor: MemoryMonitor) -> None:
        """Show nothing."""

    def advanced(self, progress: object) -> None:
        """Show nothing."""

    def failed(self, failure: Failure) -> None:
        """Say nothing: the failure is in the manifest."""

    def close(self) -> None:
        """Nothing to take down."""
