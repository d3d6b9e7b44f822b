"""A draft model of another family, whose drafts reach the target as text."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from specbench.engine.base import Engine
from specbench.engine.session import KVSession
from specbench.models.retokenizing import Retokenizer
from specbench.speculation.loop import Drafter
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Request

WIDEST_TOKEN = 8  # tokens of the draft's for which there is room, for each one of the target's


class TextDrafter(Drafter):
    """String-level exact match: the draft's likeliest tokens, in the target's tokenization of their text.

    Source: Timor et al. 2025, "Accelerating LLM Inference with Lossless Speculative Decoding Algorithms for
    Heterogeneous Vocabularies", algorithm 2. The target judges its own tokens, and what is proposed does not
    depend on its random numbers: so every rule that asks for no distribution stays as lossless as it is.

    Args:
        engine: of the draft, in its own ids.
        context_length: tokens that the draft was made for; with more it proposes nothing.
    """

    def __init__(self, engine: Engine, tokens: Retokenizer, context_length: int | None) -> None:
        self._engine = engine
        self._tokens = tokens
        self._context_length = context_length
        self._held: KVSession | None = None

    def begin(self, request: Request) -> None:
        """Read the prompt's text."""
        self._committed = list(request.prompt_ids)
        self._proposed: deque[tuple[int, ...]] = deque()
        read = self._tokens.to_draft(self._committed)
        room = len(read) + WIDEST_TOKEN * request.max_new_tokens
        self._room = min(room, self._context_length or room)
        self._session = self._engine.session(self._room)
        self._read: list[int] = []
        if 0 < len(read) <= self._room:
            self._session.prefill(read)
            self._read = read

    def propose(self, draft_length: int) -> Proposal:
        """What the draft writes with as many tokens of its own, at most so many of the target's."""
        behind = [*self._committed, *(token for tokens in self._proposed for token in tokens)]
        text = self._tokens.to_draft(behind)
        tokens: tuple[int, ...] = ()
        if draft_length and 0 < len(text) <= self._room - draft_length:
            drafted = self._drafted(text, draft_length)
            tokens = tuple(self._tokens.to_target(drafted, text, behind)[:draft_length])
        self._proposed.append(tokens)
        return Proposal(tokens)

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """Take over what was committed; the cache follows when the draft reads the text again."""
        proposed = self._proposed.popleft() if self._proposed else ()
        self._committed += tokens
        if not len(proposed) == accepted == len(tokens):
            self._proposed.clear()
        return 0

    def decode_alone(self) -> Iterator[int]:
        """Decode without a target, until nothing fits any more; the text is not the cloud's."""
        self._proposed.clear()
        while tokens := self.propose(WIDEST_TOKEN).tokens:
            self.commit(tokens, len(tokens))
            yield from tokens

    def check(self) -> None:
        """Assert that the cache holds what was read."""
        if not self._session.cached_length == self._session.length == len(self._read):
            raise AssertionError(
                f"the draft's cache holds {self._session.cached_length} of {len(self._read)} tokens"
            )

    def _drafted(self, text: list[int], count: int) -> list[int]:
        """The draft's `count` likeliest tokens behind a text in its own ids, one after the other."""
        kept = 0
        while kept < min(len(self._read), len(text) - 1) and self._read[kept] == text[kept]:
            kept += 1
        self._session.truncate(kept)
        drafted = self._session.draft_greedy(text[kept:], count)
        self._read = [*text, *drafted[:-1]]
        return drafted
