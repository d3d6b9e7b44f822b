"""Several verifications in flight: the edge sends proposals without waiting for the verdicts before them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from specbench.clock import now_ms
from specbench.results.records import Round
from specbench.speculation.loop import Drafter, SpeculativeLoop, Target, proposed
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Pending, Request
from specbench.speculation.window_sizes import WindowSizes

if TYPE_CHECKING:
    from specbench.engine.session import Block, Passed


class InFlight(NamedTuple):
    """A proposal whose verdict has not been taken, and what drafting it took."""

    proposal: Proposal
    pending: Pending
    draft_ms: float


class WindowLoop(SpeculativeLoop):
    """Up to `window` proposals in flight.

    The target verifies them in order. A proposal that another one follows `continues`: accepted whole it
    commits no bonus token, and the first token of the next one is judged in its place. So every rule decides
    about each token as it does without a window, and stays as lossless as it is. A refusal commits the target's
    correction and ends the epoch: what is in flight behind it is void, and the drafter begins anew.

    Args:
        window: proposals in flight at most; with `auto` as many as pay, by what this sequence has shown.
    """

    runs_on = True

    def __init__(
        self,
        drafter: Drafter,
        target: Target,
        draft_length: int | Literal["auto"],
        window: int | Literal["auto"],
    ) -> None:
        super().__init__(drafter, target, draft_length)
        self._window = window

    def _begin(self, request: Request) -> None:
        super()._begin(request)
        self._in_flight: deque[InFlight] = deque()
        self._sizes = WindowSizes(self._window, self._draft_length)
        self._epoch = 0

    def _round(self) -> Generator[Block, Passed, Round]:
        while self._drafts_on():
            self._send()
        first = self._in_flight.popleft()
        commit = first.pending.result()
        wasted, upkeep_ms = self._take_over(commit)
        self._sizes.observe(commit, first.draft_ms, self._target.rtt_ms)
        draft_ms, epoch = first.draft_ms + upkeep_ms, self._epoch
        if not first.proposal.stands(commit):
            draft_ms += sum(void.draft_ms for void in self._in_flight)
            self._in_flight.clear()
        self._epoch += (commit.accepted or 0) < len(first.proposal)
        return replace(commit, draft_ms=draft_ms, epoch=epoch, wasted_draft_tokens=wasted)
        yield  # a generator, though it waits for its passes by itself

    def _drafts_on(self) -> bool:
        """Whether to send another proposal before the oldest verdict is taken."""
        if not self._in_flight:
            return True
        if not self._in_flight[-1].proposal.continues or self._in_flight[0].pending.is_done:
            return False
        return len(self._in_flight) < self._sizes.window

    def _send(self) -> None:
        # The target adds a token of its own behind the last proposal, so a longer one could not be committed.
        room = self._target.remaining - sum(len(each.proposal) for each in self._in_flight)
        started = now_ms()
        proposal = proposed(self._drafter, self._sizes.draft_length(room - 1))
        draft_ms = now_ms() - started
        continues = (
            self._sizes.window > 1
            and 0 < len(proposal) < room - 1
            and self._request.stop_ids.isdisjoint(proposal.tokens)
        )
        proposal = replace(proposal, continues=continues)
        self._in_flight.append(InFlight(proposal, self._target.submit(proposal), draft_ms))
