"""What a method is asked, and what a step of the target answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from specbench.records import Round


@dataclass(frozen=True)
class Request:
    """One prompt to continue.

    Args:
        prompt_ids: the conversation so far, in the target's token ids.
        max_new_tokens: the budget, at least 1.
        stop_ids: a committed id among these ends the text; it counts as a token of it.
        seed: of everything random in this generation.
    """

    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    stop_ids: frozenset[int]
    seed: int = 0


@dataclass(frozen=True)
class Commit:
    """What one step of the target committed, and what it took to ask for it.

    Args:
        tokens: ids that now belong to the text, at least one.
        accepted: how many of them were drafted.
        finish_reason: `stop`, `length`, or `None` while the text goes on.
        verify_ms: time the target computed, measured where it runs.
        uplink_ms: the way to the target, `downlink_ms` the way back, as a modelled link delays them.
        rtt_ms: the round trip beyond the target's own work, measured; as of `Round`, like `streamed`.
        wait_ms: how long the edge waited for this with nothing else to do.
        bytes_up: of the encoded frame that asked; `bytes_down` of the one that answered.
        prefilled: tokens that the target read anew for this though it had read them before: a whole text, where
            no cache is kept between rounds. `None` where one is.
        drafted: tokens that were drafted where the target runs, in `draft_ms`; `None` elsewhere. 0 with a time
            is the draft's reading of the prompt.
        shared: texts that shared the pass; each of them has its whole time, `pass_ms`, in `verify_ms`. What
            else is in that is this text's own.
    """

    tokens: tuple[int, ...]
    accepted: int
    finish_reason: str | None
    verify_ms: float
    uplink_ms: float | None = None
    downlink_ms: float | None = None
    wait_ms: float | None = None
    bytes_up: int | None = None
    bytes_down: int | None = None
    drafted: int | None = None
    draft_ms: float | None = None
    shared: int = 1
    pass_ms: float = 0.0
    prefilled: int | None = None
    rtt_ms: float | None = None
    streamed: bool = False

    def round(
        self,
        drafted: int | None = None,
        draft_ms: float | None = None,
        verify_ms: float | None = None,
        wasted_draft_tokens: int | None = None,
        unverified: int | None = None,
    ) -> Round:
        """This step as it is recorded; what it took on the way comes from here, the rest from the method.

        Args:
            verify_ms: this step's own when absent; what a gate let pass has none.
        """
        if verify_ms is None and unverified is None:
            verify_ms = self.verify_ms
        return Round(
            tokens=self.tokens,
            drafted=drafted,
            accepted=None if drafted is None else self.accepted,
            draft_ms=draft_ms,
            uplink_ms=self.uplink_ms,
            verify_ms=verify_ms,
            downlink_ms=self.downlink_ms,
            wait_ms=self.wait_ms,
            bytes_up=self.bytes_up,
            bytes_down=self.bytes_down,
            wasted_draft_tokens=wasted_draft_tokens,
            unverified=unverified,
            prefilled=self.prefilled,
            rtt_ms=self.rtt_ms,
            streamed=self.streamed,
        )


class Pending(Protocol):
    """A verification under way."""

    @property
    def is_done(self) -> bool:
        """Whether `result` would return at once."""

    def result(self) -> Commit:
        """Wait for the verification, and commit what it accepted. To be called once."""
