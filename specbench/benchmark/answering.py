"""One request, answered on the clock, and held to what every method promises of its rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from specbench.api import Decoder, Request, Round
from specbench.clock import now_ms
from specbench.speculation.round_checks import broken_promise


class BrokenContractError(Exception):
    """A method yielded something that no method may yield."""


def demand_kept(part: Any, request: Request, text: Sequence[int], has_ended: bool) -> str | None:
    """Refuse a round that breaks what every method promises.

    Args:
        text: the prompt, and what is committed before the round.
        has_ended: an earlier round ended it.

    Returns:
        Why the text ends with this round, `stop` or `length`; `None` where it goes on.

    Raises:
        BrokenContractError: saying which promise.
    """
    if broken := broken_promise(part):
        raise BrokenContractError(f"it {broken}")
    left = 0 if has_ended else len(request.prompt_ids) + request.max_new_tokens - len(text)
    over = len(part.tokens) - left
    if over > 0:
        raise BrokenContractError(f"it committed {over} tokens after a stop token or beyond its budget")
    kept, finish_reason = request.cut(text, part.tokens)
    if kept != part.tokens:
        raise BrokenContractError(
            "it committed tokens after a stop token"
            if kept[-1] in request.stop_ids
            else "it committed tokens after the end of a stop string (decoding.stop)"
        )
    return finish_reason


def whether_complete(request: Request, tokens: Sequence[int]) -> bool | None:
    """Whether an answer is whole by its grammar; `None` without one.

    Raises:
        BrokenContractError: the grammar does not allow it.
    """
    if request.grammar is None:
        return None
    place = request.grammar.constraint()
    if not place.takes(tokens):
        raise BrokenContractError("it committed tokens that the grammar of the answer does not allow")
    return place.is_complete(tokens)


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
        self.finish_reason: str | None = None

    def run(self) -> None:
        """Take all rounds.

        Raises:
            BrokenContractError: what came is no answer to the request.
        """
        text = list(self._request.prompt_ids)
        paused_ms = before_ms = 0.0
        started = now_ms()
        self.iterator = self._decoder.generate(self._request)
        for part in self.iterator:
            arrived = now_ms()
            self.arrival_ms.append(arrived - started - paused_ms)
            self.rounds.append(part)
            self.finish_reason = demand_kept(part, self._request, text, bool(self.finish_reason))
            text += part.tokens
            if self._check_cache:
                self._decoder.check()
            self._between(part, self.arrival_ms[-1] - before_ms)
            before_ms = self.arrival_ms[-1]
            if not self._decoder.runs_on:
                paused_ms += now_ms() - arrived
        if not self.finish_reason:
            raise BrokenContractError("it ended before a stop token and before its budget")
