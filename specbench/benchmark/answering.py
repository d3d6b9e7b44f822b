"""One request, answered on the clock, and held to what every method promises of its rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from specbench.api import Decoder, Request, Round
from specbench.clock import now_ms
from specbench.speculation.round_checks import broken_promise


class BrokenContractError(Exception):
    """A method yielded something that no method may yield."""


def demand_kept(part: Any, left: int, stop_ids: frozenset[int]) -> None:
    """Refuse a round that breaks what every method promises; `left` is the budget before it.

    Raises:
        BrokenContractError: saying which promise.
    """
    if broken := broken_promise(part):
        raise BrokenContractError(f"it {broken}")
    over = len(part.tokens) - left
    if over > 0:
        raise BrokenContractError(f"it committed {over} tokens after a stop token or beyond its budget")
    if not stop_ids.isdisjoint(part.tokens[:-1]):
        raise BrokenContractError("it committed tokens after a stop token")


class Answering:
    """A decoder's answer to one request; what we do between rounds is off the clock, unless the method runs on.

    Args:
        between: called after each round with it and with the time since the one before.
        check_cache: have the decoder check its caches after each round.
    """

    def __init__(
        self, decoder: Decoder, request: Request, between: Callable[[Round, float], None], check_cache: bool
    ) -> None:
        self._decoder, self._request = decoder, request
        self._between, self._check_cache = between, check_cache
        self.iterator: Iterator[Round] = iter(())
        self.rounds: list[Round] = []
        self.arrival_ms: list[float] = []

    def run(self) -> None:
        """Take all rounds.

        Raises:
            BrokenContractError: what came is no answer to the request.
        """
        left, stop_ids = self._request.max_new_tokens, self._request.stop_ids
        paused_ms = before_ms = 0.0
        started = now_ms()
        self.iterator = self._decoder.generate(self._request)
        for part in self.iterator:
            arrived = now_ms()
            self.arrival_ms.append(arrived - started - paused_ms)
            self.rounds.append(part)
            demand_kept(part, left, stop_ids)
            left -= len(part.tokens)
            if self._check_cache:
                self._decoder.check()
            self._between(part, self.arrival_ms[-1] - before_ms)
            before_ms = self.arrival_ms[-1]
            if not self._decoder.runs_on:
                paused_ms += now_ms() - arrived
            if part.tokens[-1] in stop_ids:
                left = 0
        if left:
            raise BrokenContractError("it ended before a stop token and before its budget")
