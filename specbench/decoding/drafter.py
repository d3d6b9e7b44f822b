"""The edge as a method sees it: a draft model that proposes, and takes back what was refused."""

from __future__ import annotations

from collections.abc import Sequence

from specbench.config import Decoding
from specbench.decoding.engine import Engine
from specbench.decoding.request import Request
from specbench.decoding.sampling import Sampler


class Drafter:
    """Proposes tokens behind all that is committed.

    Between calls the cache holds a prefix of the committed tokens; what it lacks is read when the next
    draft begins.
    """

    def __init__(self, engine: Engine, decoding: Decoding) -> None:
        self._engine = engine
        self._decoding = decoding

    def begin(self, request: Request) -> None:
        """Prefill the prompt."""
        self._sampler = Sampler.seeded(self._decoding, request.seed, self._engine.loaded.device)
        self._session = self._engine.session(len(request.prompt_ids) + request.max_new_tokens)
        self._committed = list(request.prompt_ids)
        self._session.prefill(request.prompt_ids)

    def propose(self, draft_length: int) -> list[int]:
        """The draft model's next `draft_length` tokens behind all that is committed."""
        drafted: list[int] = []
        unread = self._committed[self._session.length :]
        if self._decoding.temperature == 0 and self._decoding.repetition_penalty == 1:
            return self._session.draft_greedy(unread, draft_length)
        while len(drafted) < draft_length:
            logits = self._session.extend(unread)[-1:]
            unread = self._sampler.choose(logits, [*self._committed, *drafted])
            drafted += unread
        return drafted

    def commit(self, tokens: Sequence[int], accepted: int) -> None:
        """Take over what the target committed; drop from the cache what it refused.

        Args:
            tokens: the committed ids, of which the first `accepted` are those last proposed.
        """
        self._session.truncate(min(self._session.length, len(self._committed) + accepted))
        self._committed.extend(tokens)

    def check(self) -> None:
        """Assert that the cache holds nothing behind the committed tokens."""
        held = self._session.cached_length
        if held != self._session.length or held > len(self._committed):
            raise AssertionError(f"the draft's cache holds {held} of {len(self._committed)} committed tokens")
