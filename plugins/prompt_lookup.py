"""Prompt lookup: the draft is what once followed the text's last words, in prompt or output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from specbench.api import (
    RULES,
    CloudModel,
    Decoder,
    DraftLengths,
    EdgeModel,
    Method,
    Options,
    Proposal,
    Request,
    Round,
    SpecbenchError,
    hookimpl,
    now_ms,
)

LONGEST_NGRAM = 3


class Lookup:
    """A text, and what first followed each of its n-grams; a token costs the same however long the text is."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._behind: dict[tuple[int, ...], int] = {}

    def extend(self, tokens: Iterable[int]) -> None:
        """Append tokens to the text."""
        for token in tokens:
            self._ids.append(token)
            for size in range(1, LONGEST_NGRAM + 1):
                self._behind.setdefault(tuple(self._ids[-size:]), len(self._ids))

    def continuation(self, length: int) -> tuple[int, ...]:
        """What followed the longest n-gram that ends the text where it first stood: at most `length` tokens."""
        for size in range(LONGEST_NGRAM, 0, -1):
            start = self._behind[tuple(self._ids[-size:])]
            if start < len(self._ids):
                return tuple(self._ids[start : start + length])
        return ()


class PromptLookupDecoder(Decoder):
    """The rounds of speculation, with a table in the place of a draft model."""

    def __init__(self, cloud: CloudModel, options: Options) -> None:
        self._target = cloud.verifier(options)
        self._draft_length = options.speculative.draft_length

    def generate(self, request: Request) -> Iterator[Round]:
        """The first round is the target's first token; a round in which nothing is found is a plain step."""
        lookup = Lookup()
        lookup.extend(request.prompt_ids)
        commit = self._target.begin(request)
        yield commit.round()
        lengths = DraftLengths(self._draft_length)
        while commit.finish_reason is None:
            started = now_ms()
            lookup.extend(commit.tokens)
            # The target adds a token of its own, so a longer draft than this could not be committed.
            drafted = lookup.continuation(lengths.next(self._target.remaining - 1))
            draft_ms = now_ms() - started
            commit = self._target.verify(Proposal(drafted))
            lengths.observe(commit, len(drafted), draft_ms, len(drafted), self._target.rtt_ms)
            yield commit.round(drafted=len(drafted), draft_ms=draft_ms, verify_ms=commit.verify_ms)

    def check(self) -> None:
        """The cache's length."""
        self._target.check()


class PromptLookup(Method):
    """Saxena 2023, "Prompt Lookup Decoding": a control that any draft model must beat."""

    name = "prompt_lookup"
    summary = "the cloud verifies what its own text suggests: no draft model"
    roles = ("cloud",)
    api_version = 3

    def lossless(self, options: Options) -> bool:
        """As the verification rule is."""
        return RULES[options.speculative.verification].lossless

    def repeats_control(self, options: Options) -> bool:
        """With a lossless rule at temperature 0, and with shared noise at any."""
        rule = RULES[options.speculative.verification]
        return rule.lossless and (rule.repeats_control or options.decoding.temperature == 0)

    def validate(self, options: Options) -> None:
        """A lookup knows no probabilities: neither a distribution to be judged by, nor how sure it is."""
        verification, temperature = options.speculative.verification, options.decoding.temperature
        if RULES[verification].proposes == "sample":
            raise SpecbenchError(
                f"speculative.verification: {verification} needs the draft's distribution, and prompt_lookup "
                "has none",
                "add --set speculative.verification=one_hot, the rejection rule for a draft without one",
            )
        if RULES[verification].needs_greedy and temperature > 0:
            raise SpecbenchError(
                f"speculative.verification: {verification} needs decoding.temperature: 0, not {temperature}",
                "add --set decoding.temperature=0, or --set speculative.verification=one_hot",
            )
        if options.speculative.gate:
            raise SpecbenchError(
                "speculative.gate asks how sure the draft is, and prompt_lookup does not know",
                "add --set speculative.gate=null",
            )

    def open(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> Decoder:
        """Load the cloud model."""
        return PromptLookupDecoder(cloud, options)


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return PromptLookup()
