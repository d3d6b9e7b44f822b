"""Drafting ahead for several outcomes, over a trace: by its rank, a correction was drafted for or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from specbench.api import Proposal, Request, SpecbenchError
from specbench.engine.trees import MOST_TOKENS
from specbench.forecast.traced_drafter import WRONG, Text, TracedDrafter
from specbench.speculation.outcomes import LikelyOutcomes, Outcome
from specbench.stats.prices import Charge


class TracedOutcomeDrafter(TracedDrafter):
    """As `speculation.outcomes.OutcomeDrafter`, whose passes cost what a table says.

    Args:
        charge: is told of each pass.

    Raises:
        SpecbenchError: the trace does not hold the draft's likeliest tokens.
    """

    def __init__(self, text: Text, charge: Callable[[Charge], object], count: int) -> None:
        if not text.likely:
            raise SpecbenchError(
                "drafting for several outcomes needs the draft's next-best tokens, which are not known here",
                "replay a greedy trace of 'specbench trace', made with the target in this process",
            )
        self._text = text
        self._charge = charge
        self._count = count

    def begin(self, request: Request) -> None:
        """Read the prompt."""
        super().begin(request)
        self._outcomes = LikelyOutcomes(self._count)
        self._branches: list[Outcome] = []
        self._depth = self._read = 0

    @property
    def uncommitted(self) -> int:
        """Tokens that are drafted and not judged, along one branch."""
        return self._uncommitted + self._depth

    def propose(self, draft_length: int) -> Proposal:
        """What was drafted for the outcome first; what is longer than the proposal is dropped."""
        proposal = super().propose(draft_length)
        self._uncommitted = len(proposal)
        self._cached = min(self._cached, self._committed + len(proposal))
        return proposal

    def draft_ahead(self) -> int | None:
        """One more token for each outcome."""
        if not self._branches:
            self._read = self._uncommitted + 1
            if self._read >= MOST_TOKENS:
                return None
            self._branches = self._outcomes.of(self._uncommitted)[: MOST_TOKENS - self._read]
            width = self._read
        elif self._read + len(self._branches) > MOST_TOKENS:
            return None
        else:
            width = len(self._branches)
            self._read += width
        self._charge(Charge("draft", 1, width))
        self._depth += 1
        return WRONG

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """Take over what was committed; what was drafted for that outcome is the next proposal."""
        branches, self._branches = self._branches, []
        depth, self._depth = self._depth, 0
        self._outcomes.observe(self._proposed[0] if self._proposed else 0, accepted)
        if branches:
            self._cached = self._committed + self._uncommitted
        ends = self._committed + accepted
        met = len(tokens) > accepted and Outcome(accepted, self._text.rank(ends)) in branches
        super().commit(tokens, accepted)
        if met:
            self._uncommitted = depth - 1
            self._cached = self._committed + depth - 2
        return (len(branches) - met) * depth

    def _prefill(self, prompt_tokens: int) -> None:
        self._charge(Charge("draft prefill", prompt_tokens))

    def _compute(self, drafted: int, unread: int) -> None:
        self._charge(Charge("draft", drafted, unread))
