"""Pipelined speculation: the edge drafts on while the cloud verifies, and rolls back when that was in vain."""

from __future__ import annotations

from collections.abc import Iterator

from specbench.api import (
    RULES,
    AheadWindow,
    CloudModel,
    Decoder,
    DraftLengths,
    EdgeModel,
    Method,
    Options,
    Pending,
    Proposal,
    Request,
    Round,
    SpecbenchError,
    hookimpl,
    now_ms,
)

from .speculative import SpeculativeDecoder, SpeculativeDecoding


class PipelinedDecoder(SpeculativeDecoder):
    """The rounds of `speculative`, of which the next begins while the verdict on this one is awaited.

    Behind a proposal the draft guesses the token that the target will add, and drafts the next proposal
    behind that. If all is accepted and the guess is right, that much of the next proposal is there; else it is
    dropped. At a fixed draft length every proposal is the one that `speculative` makes, only earlier.
    """

    def _with_cloud(self, request: Request) -> Iterator[Round]:
        """Nothing is under way when a round is yielded, so what the runner does meanwhile hides nothing."""
        drafter, target = self._drafter, self._target
        commit = target.begin(request)
        drafter.commit(commit.tokens, commit.accepted)
        yield commit.round()
        lengths, window = DraftLengths(self._draft_length), AheadWindow()
        while commit.finish_reason is None:
            started, carried = now_ms(), drafter.uncommitted
            proposal = drafter.propose(lengths.next(target.remaining - 1))
            # The target adds a token of its own here, and one behind the next proposal.
            room = target.remaining - len(proposal) - 2
            sent = now_ms()
            pending = target.submit(proposal)
            if room > 0 and request.stop_ids.isdisjoint(proposal.tokens):
                wanted = len(proposal) + 1 + lengths.next(room)
                self._draft_ahead(request, proposal, wanted, pending, window, sent)
            draft_ms, steps = now_ms() - started, drafter.uncommitted - carried
            ahead = drafter.uncommitted - len(proposal)
            commit = pending.result()
            wasted = drafter.commit(commit.tokens, commit.accepted)
            lengths.observe(commit, len(proposal), draft_ms, steps, target.rtt_ms)
            round_trip_ms = commit.verify_ms + (target.rtt_ms or 0.0)
            window.observe(round_trip_ms, draft_ms / steps if steps else None, not wasted if ahead else None)
            yield commit.round(
                drafted=len(proposal),
                draft_ms=draft_ms,
                verify_ms=commit.verify_ms,
                wasted_draft_tokens=wasted,
            )

    def _draft_ahead(
        self,
        request: Request,
        proposal: Proposal,
        wanted: int,
        pending: Pending,
        window: AheadWindow,
        sent_ms: float,
    ) -> None:
        """Draft until `wanted` tokens are uncommitted, the verdict is there, or going on does not pay."""
        drafter = self._drafter
        while drafter.uncommitted < wanted and not pending.is_done and window.pays(now_ms() - sent_ms):
            token = drafter.draft_ahead()
            if token in request.stop_ids and drafter.uncommitted == len(proposal) + 1:
                return  # the guess is that the text ends here


class SpeculativePipelined(SpeculativeDecoding):
    """PEARL's post-verify (Liu et al. 2025), AMUSD (McDanel 2024): one verification under way at a time."""

    name = "speculative_pipelined"
    summary = "speculative, drafting on while the cloud verifies"

    def validate(self, options: Options) -> None:
        """Only a rule that matches the draft's own choice with the target's says whether a guess stands."""
        super().validate(options)
        verification = options.speculative.verification
        if not RULES[verification].repeats_control:
            raise SpecbenchError(
                f"speculative.verification: {verification} is not known to {self.name}, which needs a rule by "
                "which drafted tokens are the control's or refused",
                "add --set speculative.verification=coupled, or greedy at decoding.temperature: 0",
            )
        if options.speculative.gate:
            raise SpecbenchError(
                f"speculative.gate is not known to {self.name}", "add --set speculative.gate=null"
            )

    def open(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> Decoder:
        """Load both models."""
        return PipelinedDecoder(edge, cloud, options)


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return SpeculativePipelined()
