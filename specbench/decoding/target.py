"""The cloud as a method sees it: begin, verify, decode. Verification runs where the target runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from specbench.clock import now_ms
from specbench.config import Decoding
from specbench.decoding import verification
from specbench.decoding.engine import Engine
from specbench.decoding.request import Commit, Request
from specbench.decoding.sampling import Sampler


class Target:
    """Commits tokens of one text at a time, by one loop for the control and for every draft.

    Between calls the cache holds all committed tokens but the last, which the next pass reads.
    """

    def __init__(self, engine: Engine, decoding: Decoding) -> None:
        self._engine = engine
        self._decoding = decoding

    def begin(self, request: Request) -> Commit:
        """Prefill the prompt and commit the target's first token."""
        started = now_ms()
        self._request = request
        self._session = self._engine.session(len(request.prompt_ids) + request.max_new_tokens)
        self._sampler = Sampler.seeded(self._decoding, request.seed, self._engine.loaded.device)
        self._committed = list(request.prompt_ids)
        logits = self._session.prefill(request.prompt_ids)
        return self._commit(self._sampler.choose(logits, self._committed), 0, started)

    @property
    def remaining(self) -> int:
        """Tokens of the budget that are not spent."""
        return self._request.max_new_tokens - (len(self._committed) - len(self._request.prompt_ids))

    def verify(self, drafted: Sequence[int] = ()) -> Commit:
        """Check drafted tokens in one pass; commit those accepted and one token of the target's own.

        Without a draft this is one step of plain autoregressive decoding.
        """
        started = now_ms()
        base = len(self._committed)
        logits = self._session.extend([self._committed[-1], *drafted])
        choices = self._sampler.choose(logits, self._committed, drafted)
        verdict = verification.greedy(drafted, choices)
        self._session.truncate(base + verdict.accepted)
        return self._commit([*drafted[: verdict.accepted], verdict.next_token], verdict.accepted, started)

    def decode(self) -> Iterator[Commit]:
        """Go on alone, token by token, to the end of the text."""
        while True:
            commit = self.verify()
            yield commit
            if commit.finish_reason:
                return

    def check(self) -> None:
        """Assert that the cache holds exactly the committed tokens but the last."""
        expected = len(self._committed) - 1
        if self._session.cached_length != expected:
            raise AssertionError(
                f"the target's cache holds {self._session.cached_length} tokens and should hold {expected}"
            )

    def _commit(self, tokens: Sequence[int], accepted: int, started: float) -> Commit:
        kept, finish_reason = verification.cut(tokens, self.remaining, self._request.stop_ids)
        self._committed.extend(kept)
        if finish_reason:
            # What was verified behind the end is no part of the text: nor of the cache.
            self._session.truncate(min(self._session.length, len(self._committed) - 1))
        return Commit(kept, min(accepted, len(kept)), finish_reason, now_ms() - started)
