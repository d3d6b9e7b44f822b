"""Prompt lookup: the draft is what once followed the sequence's last tokens, in prompt or output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from specbench.api import (
    RULES,
    Drafter,
    EdgeModel,
    Method,
    Options,
    Proposal,
    Request,
    SpeculativeMethod,
    hookimpl,
)

LONGEST_NGRAM = 3


class NgramDrafter(Drafter):
    """Remembers what first followed each n-gram; a token costs the same however long the sequence is."""

    def begin(self, request: Request) -> None:
        """Read the prompt."""
        self._ids: list[int] = []
        self._behind: dict[tuple[int, ...], int] = {}
        self._extend(request.prompt_ids)

    def propose(self, draft_length: int) -> Proposal:
        """What followed the longest n-gram that ends the sequence, where it first stood."""
        for size in range(LONGEST_NGRAM, 0, -1):
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
            for size in range(1, LONGEST_NGRAM + 1):
                self._behind.setdefault(tuple(self._ids[-size:]), len(self._ids))


class PromptLookup(SpeculativeMethod):
    """Saxena 2023, "Prompt Lookup Decoding": a control that any draft model must beat."""

    name = "prompt_lookup"
    summary = "the cloud verifies what its own text suggests: no draft model"
    roles = ("cloud",)
    api_version = 4
    # A table knows no probabilities: neither a distribution to be judged by, nor how sure it is.
    rules = frozenset(name for name, rule in RULES.items() if rule.proposes != "sample")
    rules_reason = ", whose draft has no distribution"

    def drafter(self, edge: EdgeModel, options: Options) -> Drafter:
        """The table; no model is loaded."""
        return NgramDrafter()


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return PromptLookup()
