"""The loop that chooses in each round where the target waits for the edge."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING

from specbench.clock import now_ms
from specbench.results.records import Round
from specbench.speculation.draft_length import LONGEST, DraftLengths
from specbench.speculation.filled_sizes import FilledSizes
from specbench.speculation.flown import as_chain
from specbench.speculation.gains import BUDGET, MARGIN, losses_ms
from specbench.speculation.lookup_drafter import LookupDrafter
from specbench.speculation.loop import SpeculativeLoop, Target, proposed
from specbench.speculation.measured import Measured
from specbench.speculation.proposal import NO_DRAFT, Proposal
from specbench.speculation.request import Request

if TYPE_CHECKING:
    from specbench.engine.session import Block, Passed

PATIENCE = 4  # tokens decoded alone before drafting is tried again; doubles


class AdaptiveLoop(SpeculativeLoop):
    """Chooses by what this sequence has shown so far: costs and acceptance.

    For a target that does not stream: in this process, or of another engine. It chooses between a plain step, a
    proposal, a tree and a look-up. The first rounds draft. Where that turns out slower than plain steps, it is
    tried again behind ever more of them.

    Args:
        trees: drafter and target take trees.
    """

    _drafter: LookupDrafter

    def __init__(self, drafter: LookupDrafter, target: Target, trees: bool = False) -> None:
        super().__init__(drafter, target, "auto")
        self._trees, self._costs = trees, Measured()

    def _begin(self, request: Request) -> None:
        self._request = request
        self._sizes = FilledSizes(self._costs, self._trees, streams=False)
        self._sizes.choose()
        self._lookups = DraftLengths("auto")
        self._steps_left, self._patience = 0, PATIENCE
        self._came_ms = now_ms()
        self._lost_ms = 0.0  # by drafting, against the cloud alone

    def _round(self) -> Generator[Block, Passed, Round]:
        started, found = now_ms(), self._found()
        if found:
            proposal, choice = self._drafter.propose_found(found), "lookup"
        elif self._steps_left:
            proposal, choice = NO_DRAFT, "alone"
        else:
            proposal, choice = self._drafted()
        draft_ms = now_ms() - started
        commit = yield from self._target.verified(proposal)
        _, upkeep_ms = self._take_over(commit)
        self._observe(commit, proposal, choice)
        came_ms, self._came_ms = self._came_ms, now_ms()
        if choice == "alone":
            self._steps_left -= 1
            return replace(commit, choice=choice)
        self._lost_ms += self._came_ms - came_ms - self._alone_ms * len(commit.tokens)
        self._reconsider()
        return replace(commit, draft_ms=draft_ms + upkeep_ms, choice=choice)

    def _drafted(self) -> tuple[Proposal, str]:
        """What the model drafts, as a chain or as a tree."""
        # The target adds a token of its own, so a longer draft than this could not be committed.
        size, room, started = self._sizes.next, self._target.remaining - 1, now_ms()
        if size.nodes and room > 0:
            proposal = self._drafter.propose_tree(min(size.length, room), size.nodes)
            self._costs.spend_on_tree(now_ms() - started, proposal.depth, len(proposal), False)
            return proposal, "tree"
        proposal = proposed(self._drafter, min(size.length, room))
        self._costs.spend(now_ms() - started, len(proposal), False)
        return proposal, "round"

    def _observe(self, commit: Round, proposal: Proposal, choice: str) -> None:
        self._costs.observe(commit, is_busy=False)
        if choice == "lookup":
            self._lookups.observe(commit, len(proposal), 0.0, 0, None)
            commit = replace(commit, drafted=0, accepted=0)
        elif choice == "tree":
            self._sizes.observe_tree(len(proposal), proposal.depth, commit.accepted or 0)
            commit = as_chain(commit, proposal.first_choices)
        self._sizes.observe(commit, self._target.rtt_ms)
        self._sizes.choose()

    @property
    def _alone_ms(self) -> float:
        """What a plain step takes."""
        return self._costs.alone_ms() + self._sizes.rtt_ms

    def _found(self) -> tuple[int, ...]:
        """What is found in the sequence, where drafting that is expected to be fastest."""
        found = self._drafter.found(min(LONGEST, self._target.remaining - 1))
        if not found or not self._costs.knows:
            return ()
        ms, tokens = self._sizes.of_one(self._lookups.survival(len(found)), goes_on=False)
        best_ms = self._alone_ms if self._steps_left else self._sizes.ms_per_token
        return found if ms / tokens < best_ms else ()

    def _reconsider(self) -> None:
        """After a verdict: whether plain steps are to follow."""
        more_ms, margin_ms = self._sizes.ms_per_token - self._alone_ms, MARGIN * self._alone_ms
        budget_ms = BUDGET * self._alone_ms * self._request.max_new_tokens
        has_lost = self._lost_ms > budget_ms and more_ms > -margin_ms
        if has_lost or (more_ms > margin_ms and losses_ms(self._sizes, self._alone_ms)[0] > margin_ms):
            self._steps_left, self._patience = self._patience, 2 * self._patience
