"""Speculative decoding: the edge drafts, the cloud verifies in one pass, both roll back what was refused."""

from __future__ import annotations

from collections.abc import Iterator

from specbench.api import (
    CloudModel,
    Decoder,
    EdgeModel,
    Method,
    Options,
    Request,
    Round,
    SpecbenchError,
    hookimpl,
    now_ms,
)


class SpeculativeDecoder(Decoder):
    """One round: draft, verify, commit what was accepted and one token of the target's own."""

    def __init__(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> None:
        self._drafter = edge.drafter(options.decoding)
        self._target = cloud.verifier(options.decoding)
        self._draft_length = options.speculative.draft_length

    def generate(self, request: Request) -> Iterator[Round]:
        """The first round is the target's first token; drafting starts behind it."""
        self._drafter.begin(request)
        commit = self._target.begin(request)
        self._drafter.commit(commit.tokens, commit.accepted)
        yield Round(tokens=commit.tokens)
        while commit.finish_reason is None:
            started = now_ms()
            # The target adds a token of its own, so a longer draft than this could not be committed.
            drafted = self._drafter.propose(min(self._draft_length, self._target.remaining - 1))
            draft_ms = now_ms() - started
            commit = self._target.verify(drafted)
            self._drafter.commit(commit.tokens, commit.accepted)
            yield Round(
                tokens=commit.tokens,
                drafted=len(drafted),
                accepted=commit.accepted,
                draft_ms=draft_ms,
                verify_ms=commit.verify_ms,
            )

    def check(self) -> None:
        """Cache lengths, on both sides."""
        self._target.check()
        self._drafter.check()


class SpeculativeDecoding(Method):
    """Leviathan et al. 2023 and Chen et al. 2023, with the draft on an edge device."""

    name = "speculative"
    summary = "the edge drafts, the cloud verifies"
    roles = ("edge", "cloud")

    def lossless(self, options: Options) -> bool:
        """Greedy verification is lossless at temperature 0, which `validate` demands."""
        return True

    def validate(self, options: Options) -> None:
        """Greedy verification compares with the target's argmax, so there is nothing to sample."""
        if options.decoding.temperature > 0:
            raise SpecbenchError(
                f"speculative.verification: greedy needs decoding.temperature: 0, not "
                f"{options.decoding.temperature}",
                "add --set decoding.temperature=0",
            )

    def open(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> Decoder:
        """Load both models."""
        return SpeculativeDecoder(edge, cloud, options)


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return SpeculativeDecoding()
