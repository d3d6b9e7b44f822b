"""Prompt lookup: the draft is what once followed the sequence's last tokens, in prompt or output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import Field

from specbench.api import (
    RULES,
    Drafter,
    EdgeModel,
    Method,
    Options,
    Part,
    Proposal,
    Request,
    SpeculativeMethod,
    hookimpl,
)


class Settings(Part):
    """The options of `prompt_lookup`."""

    max_ngram: Annotated[int, Field(ge=1, le=16, description="Longest n-gram to look up, in tokens")] = 3


class NgramDrafter(Drafter):
    """Remembers what first followed each n-gram; a token costs the same however long the sequence is."""

    def __init__(self, max_ngram: int) -> None:
        self._max_ngram = max_ngram

    def begin(self, request: Request) -> None:
        """Read the prompt."""
        self._ids: list[int] = []
        self._behind: dict[tuple[int, ...], int] = {}
        self._extend(request.prompt_ids)

    def propose(self, draft_length: int) -> Proposal:
        """What followed the longest n-gram that ends the sequence, where it first stood."""
        for size in range(self._max_ngram, 0, -1):
            start = self._behind[tuple(self._ids[-size:])]
            if start < len(self._ids):
                return Proposal(tuple(self._ids[start : start + draft_length]))
        return Proposal()

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """Append what was committed."""
        self._extend(tokens)
        return 0

    def check(self) -> None:
        """Nothing: a table holds only what is committed."""

    def _extend(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            self._ids.append(token)
            for size in range(1, self._max_ngram + 1):
                self._behind.setdefault(tuple(self._ids[-size:]), len(self._ids))


class PromptLookup(SpeculativeMethod):
    """Saxena 2023, "Prompt Lookup Decoding": a control that any draft model must beat."""

    name = "prompt_lookup"
    summary = "the cloud verifies what its own text suggests: no draft model"
    roles = ("cloud",)
    api_version = 4
    settings = Settings
    # A table knows no probabilities: neither a distribution to be judged by, nor how sure it is.
    rules = frozenset(name for name, rule in RULES.items() if rule.proposes != "sample")
    rules_reason = ", whose draft has no distribution"

    def drafter(self, edge: EdgeModel, options: Options) -> Drafter:
        """The table; no model is loaded."""
        return NgramDrafter(self.own(options, Settings).max_ngram)


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return PromptLookup()
