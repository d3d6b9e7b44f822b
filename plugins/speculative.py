"""Speculative decoding: the edge drafts, the cloud verifies in one pass, both roll back what was refused."""

from __future__ import annotations

from collections.abc import Iterator

from specbench.api import (
    RULES,
    CloudLostError,
    CloudModel,
    Decoder,
    DraftLengths,
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
    """One round: draft, verify, commit what was accepted and one token of the target's own.

    Where the profile has a gate, a draft that is certain of all its tokens is committed unverified.
    """

    def __init__(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> None:
        self._drafter = edge.drafter(options)
        self._target = cloud.verifier(options)
        self._draft_length = options.speculative.draft_length
        self._goes_on_alone = cloud.goes_on_alone

    def generate(self, request: Request) -> Iterator[Round]:
        """The first round is the target's first token; drafting starts behind it.

        When the cloud is gone for good, and the profile says so, the draft goes on alone.
        """
        self._drafter.begin(request)
        left = request.max_new_tokens
        try:
            for part in self._with_cloud(request):
                left -= len(part.tokens)
                yield part
        except CloudLostError:
            if not self._goes_on_alone:
                raise
            for token in self._drafter.go_on():
                left -= 1
                yield Round(tokens=(token,), unverified=1)
                if token in request.stop_ids or not left:
                    return

    def _with_cloud(self, request: Request) -> Iterator[Round]:
        commit = self._target.begin(request)
        self._drafter.commit(commit.tokens, commit.accepted)
        yield commit.round()
        lengths = DraftLengths(self._draft_length)
        while commit.finish_reason is None:
            started = now_ms()
            # The target adds a token of its own, so a longer draft than this could not be committed.
            proposal = self._drafter.propose(lengths.next(self._target.remaining - 1))
            draft_ms = now_ms() - started
            if proposal.is_certain and request.stop_ids.isdisjoint(proposal.tokens):
                commit = self._target.trust(proposal.tokens)
                self._drafter.commit(commit.tokens, len(commit.tokens))
                yield commit.round(draft_ms=draft_ms, unverified=len(commit.tokens))
                continue
            commit = self._target.verify(proposal)
            self._drafter.commit(commit.tokens, commit.accepted)
            lengths.observe(commit, len(proposal), draft_ms, len(proposal), self._target.rtt_ms)
            yield commit.round(drafted=len(proposal), draft_ms=draft_ms, verify_ms=commit.verify_ms)

    def check(self) -> None:
        """Cache lengths, on both sides."""
        self._target.check()
        self._drafter.check()


class SpeculativeDecoding(Method):
    """Leviathan et al. 2023 and Chen et al. 2023, with the draft on an edge device."""

    name = "speculative"
    summary = "the edge drafts, the cloud verifies"
    roles = ("edge", "cloud")
    api_version = 3

    def lossless(self, options: Options) -> bool:
        """As the verification rule is; a gate never is."""
        return RULES[options.speculative.verification].lossless and options.speculative.gate is None

    def repeats_control(self, options: Options) -> bool:
        """With a lossless rule at temperature 0, and with shared noise at any."""
        rule = RULES[options.speculative.verification]
        return self.lossless(options) and (rule.repeats_control or options.decoding.temperature == 0)

    def validate(self, options: Options) -> None:
        """Greedy verification compares with the target's argmax, so there is nothing to sample."""
        verification, temperature = options.speculative.verification, options.decoding.temperature
        if RULES[verification].needs_greedy and temperature > 0:
            raise SpecbenchError(
                f"speculative.verification: {verification} needs decoding.temperature: 0, not {temperature}",
                "add --set decoding.temperature=0, or --set speculative.verification=rejection",
            )

    def open(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> Decoder:
        """Load both models."""
        return SpeculativeDecoder(edge, cloud, options)


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return SpeculativeDecoding()
