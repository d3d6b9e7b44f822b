"""The loop that chooses in each round where the target waits for the edge."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from specbench.clock import now_ms
from specbench.results.records import Round
from specbench.speculation.draft_length import LONGEST, DraftLengths
from specbench.speculation.gains import BUDGET, MARGIN, losses_ms
from specbench.speculation.lookup_drafter import LookupDrafter
from specbench.speculation.loop import Target
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Request
from specbench.speculation.window import WindowLoop
from specbench.speculation.window_sizes import WindowSizes

if TYPE_CHECKING:
    from specbench.engine.session import Block, Passed

GUESS_WEIGHT = 1.0  # the first guess of acceptance yields to a few tokens
PATIENCE = 4  # tokens decoded alone before drafting is tried again; doubles


class AdaptiveLoop(WindowLoop):
    """Chooses by what this sequence has shown so far: costs and acceptance.

    For a target that does not stream: in this process, or of another engine. It chooses between a plain step, a
    proposal and a look-up. The first rounds draft. Where that turns out slower than plain steps, drafting is
    tried again behind ever more of them.
    """

    _drafter: LookupDrafter

    def __init__(self, drafter: LookupDrafter, target: Target) -> None:
        super().__init__(drafter, target, "auto", 1)

    def _begin(self, request: Request) -> None:
        super()._begin(request)
        self._sizes = WindowSizes(1, "auto", GUESS_WEIGHT)
        self._lookups = DraftLengths("auto")
        self._steps_left, self._patience = 0, PATIENCE
        self._came_ms = now_ms()
        self._lost_ms = 0.0  # by drafting, against the cloud alone

    def _round(self) -> Generator[Block, Passed, Round]:
        if self._steps_left:
            return self._step()
        if found := self._found():
            commit, choice = self._looked_up(found), "lookup"
        else:
            commit, choice = (yield from super()._round()), "round"
        came_ms, self._came_ms = self._came_ms, now_ms()
        self._lost_ms += self._came_ms - came_ms - self._alone_ms * len(commit.tokens)
        self._reconsider()
        return replace(commit, choice=choice)

    @property
    def _alone_ms(self) -> float:
        """What a token of the cloud alone takes."""
        return self._sizes.verification[0]

    def _step(self) -> Round:
        self._steps_left -= 1
        commit = self._target.submit(Proposal()).result()
        self._drafter.commit(commit.tokens, 0)
        self._sizes.observe(replace(commit, pass_tokens=1), 0.0, self._target.rtt_ms)
        return replace(commit, choice="alone")

    def _found(self) -> tuple[int, ...]:
        """What is found in the sequence, where drafting that is expected to be fastest."""
        found = self._drafter.found(min(LONGEST, self._target.remaining - 1))
        if not found:
            return ()
        plain_ms, token_ms = self._sizes.verification
        round_ms = plain_ms + len(found) * token_ms + (self._target.rtt_ms or 0.0)
        ms_per_token = round_ms / (1 + sum(self._lookups.survival(len(found))))
        return found if ms_per_token < self._sizes.ms_per_token else ()

    def _looked_up(self, found: Sequence[int]) -> Round:
        """A round whose draft was found in the sequence."""
        commit = self._target.submit(self._drafter.propose_found(found)).result()
        self._drafter.commit(commit.tokens, commit.accepted or 0)
        self._lookups.observe(commit, len(found), 0.0, 0, None)
        width = replace(commit, drafted=0, accepted=0, pass_tokens=len(found) + 1)
        self._sizes.observe(width, 0.0, self._target.rtt_ms)
        return commit

    def _reconsider(self) -> None:
        """After a verdict: whether plain steps are to follow."""
        more_ms, margin_ms = self._sizes.ms_per_token - self._alone_ms, MARGIN * self._alone_ms
        budget_ms = BUDGET * self._alone_ms * self._request.max_new_tokens
        has_lost = self._lost_ms > budget_ms and more_ms > -margin_ms
        if has_lost or (more_ms > margin_ms and losses_ms(self._sizes, self._alone_ms)[0] > margin_ms):
            self._steps_left, self._patience = self._patience, 2 * self._patience
