"""Hybrid drafting: the sequence itself where it matches long enough, else the draft model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from specbench.api import (
    RULES,
    Drafter,
    DraftModel,
    EdgeModel,
    Method,
    MinMatch,
    Needs,
    Options,
    Proposal,
    Request,
    SpeculativeMethod,
    SuffixDrafter,
    SuffixSettings,
    hookimpl,
)


class Settings(SuffixSettings):
    """The options of `hybrid`: a shorter match is worth less than the draft model."""

    min_match: MinMatch = 2


class HybridDrafter(Drafter):
    """A round is drafted by one of two; the draft model reads what was committed once it drafts again."""

    def __init__(self, suffix: SuffixDrafter, model: DraftModel) -> None:
        self._suffix = suffix
        self._model = model

    def begin(self, request: Request) -> None:
        """Read the prompt, twice."""
        self._suffix.begin(request)
        self._model.begin(request)
        self._is_found = False

    def propose(self, draft_length: int) -> Proposal:
        """What followed a long match, or what the model drafts."""
        found = self._suffix.propose(draft_length)
        self._is_found = len(found) > 0
        return found if self._is_found else self._model.propose(draft_length)

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """Take over what was committed, in both; of a match the model drafted none."""
        self._suffix.commit(tokens, accepted)
        return self._model.commit(tokens, 0 if self._is_found else accepted)

    def decode_alone(self) -> Iterator[int]:
        """The model's own text, where the cloud is lost for good."""
        return self._model.decode_alone()

    def check(self) -> None:
        """The length of the model's cache."""
        self._model.check()


class HybridDecoding(SpeculativeMethod):
    """SAM Decoding (Hu et al. 2024) and SuffixDecoding (Oliaro et al. 2024), each with a draft model behind it.

    A draft from a match takes no pass of the draft model, which reads it in one pass once it drafts again.
    """

    name = "hybrid"
    summary = "the edge drafts what followed a long earlier match, else by its model"
    api_version = 4
    takes_confidence_stop = True
    settings = Settings
    # A match has no distribution.
    rules = frozenset(name for name, rule in RULES.items() if rule.proposes != "sample")
    rules_reason = ", whose drafts from a match have no distribution"

    def needs(self, options: Options) -> Needs:
        """A target that reads trees, where a match is drafted as one."""
        return self.own(options, Settings).needs

    def drafter(self, edge: EdgeModel, options: Options) -> Drafter:
        """Both of them."""
        suffix = SuffixDrafter.of(self.own(options, Settings))
        return HybridDrafter(suffix, edge.drafter(options))


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return HybridDecoding()
