"""The cloud as a method sees it: begin, verify, decode. Verification runs where the target runs."""

from __future__ import annotations

import concurrent.futures
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import cached_property
from typing import TYPE_CHECKING

from specbench.clock import now_ms
from specbench.engine.base import Engine
from specbench.engine.batch import Steps, alone
from specbench.engine.session import Block, KVSession, Passed
from specbench.engine.threads import model_thread, release_compute_threads
from specbench.errors import SpecbenchError
from specbench.profile import Options
from specbench.results.records import Round
from specbench.speculation.blocks import block_of, rows_of
from specbench.speculation.pass_under_way import PassUnderWay
from specbench.speculation.proposal import MOST_NODES, NO_DRAFT, Proposal
from specbench.speculation.readings import Readings
from specbench.speculation.request import Needs, Pending, Request, TopIds
from specbench.speculation.rules import Verdict
from specbench.speculation.verifier import Verifier

if TYPE_CHECKING:
    import torch


class LocalTarget:
    """Commits tokens of one text at a time, by one loop for the control and for every draft.

    Between calls the cache holds all committed tokens but the last, and but those that it trusted unseen; the
    next pass reads them.
    """

    rtt_ms: float | None = None
    """Time of the last round trip without the target's own computing; there is none in one process."""

    streams = False
    """Whether `decode` computes on while nobody reads it."""

    def __init__(self, engine: Engine, options: Options, needs: Needs | None = None) -> None:
        self._engine = engine
        self._options = options
        self._needs = needs or Needs()
        self.readings = Readings(self._needs)
        """Of the pass behind the last commit."""
        self._held: KVSession | None = None
        self._in_flight: deque[PassUnderWay] = deque()

    def begin(self, request: Request) -> Round:
        """Prefill the prompt and commit the target's first token."""
        started = now_ms()
        self._start(request)
        logits = self._session.prefill(self._request.prompt_ids)
        verdict = self._verifier.verdict(NO_DRAFT, logits, self._committed)
        self.readings.begin(logits, self._session.hidden_states)
        return self._commit(verdict.own, started)

    def resume(self, request: Request, tokens: Sequence[int], draws: tuple[int, int, int]) -> None:
        """Take up a text that another target began and committed `tokens` of, at least one.

        Args:
            draws: that target's, so that this one goes on with the same random numbers.
        """
        self._start(request)
        self._verifier.skip(*draws[:2])
        self._committed.extend(tokens)
        self._session.prefill(self._committed[:-1])
        self.readings.begin(None, self._session.hidden_states)

    def _start(self, request: Request) -> None:
        if self._in_flight:  # of a text that was given up
            concurrent.futures.wait([self._in_flight[0].future])
            self._in_flight.clear()
        self._request = request = request.as_read_by(self._engine.role)
        room = len(request.prompt_ids) + request.max_new_tokens
        self._held = self._engine.session(room + MOST_NODES if self._needs.trees else room)
        if request.media:
            self._held.show(request.media)
        self._held.hidden_layers = self.readings.layers
        self._verifier = Verifier(self._options, request, self._engine.role)
        self._committed = list(request.prompt_ids)
        self._trusted = self._read_ahead = 0

    @property
    def top_ids(self) -> TopIds:
        """Of the pass behind the last commit."""
        return self.readings.top_ids

    @property
    def hidden_states(self) -> torch.Tensor | None:
        """Of the pass behind the last commit, a row for each token that it committed."""
        return self.readings.hidden_states

    @property
    def remaining(self) -> int:
        """Tokens of the budget that are not spent."""
        return self._request.max_new_tokens - (len(self._committed) - len(self._request.prompt_ids))

    def said(self, start: int) -> list[int] | None:
        """Tokens behind the first `start` of prompt and text; `None` where the text did not come so far."""
        is_known = len(self._request.prompt_ids) <= start <= len(self._committed)
        return self._committed[start:] if is_known else None

    @property
    def draws(self) -> tuple[int, int, int]:
        """Random numbers used for this text so far: coins, for the target's own tokens, for its own drafts."""
        return *self._verifier.draws, 0

    @property
    def cached_length(self) -> int:
        """Tokens that the cache reports, without those of proposals that are still to be judged."""
        return self._session.cached_length - self._read_ahead

    def verify(self, proposal: Proposal | None = None) -> Round:
        """Check drafted tokens in one pass; commit those accepted and one token of the target's own."""
        return next(alone(self.verifying(proposal)))

    def verifying(self, *proposals: Proposal | None) -> Steps[Round]:
        """`verify` in steps: a block to be read, and then a commit for each proposal.

        Args:
            proposals: one after the other, all but the last with `continues`; they are read in one pass. Behind
                one that is refused none is judged any more, and there is no further commit.
        """
        self._demand_idle()
        started = now_ms()
        drafts = [proposal or NO_DRAFT for proposal in proposals]
        self._demand_declared(drafts[0])
        block = block_of(self._session, self._committed, *drafts)
        before_ms = now_ms() - started
        passed = yield block
        assert passed is not None
        started = now_ms() - before_ms - passed.pass_ms  # without waiting for others that share the pass
        width, rows = len(block.token_ids), passed.logits[-rows_of(*drafts) :]
        for index, (proposal, draft) in enumerate(zip(proposals, drafts, strict=True)):
            verdict = self._judged(draft, rows, width)
            rows = rows[len(draft) :]
            commit = self._take(proposal, verdict, started)
            if not index:  # the others cost nothing more
                commit = replace(commit, shared=passed.shared, pass_ms=passed.pass_ms)
            if len(drafts) > 1 or draft.continues:
                commit = replace(commit, pass_tokens=0 if index else width)
            stands = draft.stands(commit)
            if not stands and index + 1 < len(drafts):
                commit = replace(commit, wasted_verify_ms=passed.pass_ms * len(rows) / width)
            yield commit
            if not stands:
                return
            started = now_ms()

    def submit(self, proposal: Proposal) -> Pending:
        """Begin a verification and return at once; its result is what `verify` returns.

        Behind a proposal with `continues`, the pass of the next one begins when its verdict has been taken. A
        refusal drops all that wait behind it.

        Raises:
            RuntimeError: one is under way for this text, and nothing may follow it.
        """
        if self._in_flight and not self._in_flight[-1].proposal.continues:
            self._demand_idle()
        self._demand_declared(proposal)
        self._in_flight.append(PassUnderWay(self.finish, proposal))
        if len(self._in_flight) == 1:
            self._begin_pass()
        return self._in_flight[-1]

    def trust(self, tokens: Sequence[int]) -> Round:
        """Commit drafted tokens without a look at them, as a gate asks for; the next pass reads them."""
        self._demand_idle()
        commit = self._commit(tokens, now_ms())
        self._trusted += len(commit.tokens)
        return replace(commit, verify_ms=None, unverified=len(commit.tokens))

    @property
    def _session(self) -> KVSession:
        assert self._held is not None, "no text is under way"
        return self._held

    def release(self) -> None:
        """Free the cache; the text has ended, or is given up."""
        self._held = None

    def decode(self) -> Iterator[Round]:
        """Go on alone, token by token, to the end of the text."""
        return alone(self.decoding())

    def decoding(self) -> Steps[Round]:
        """`decode` in steps: before every commit a block to be read."""
        while True:
            commit = yield from self.verified(None)
            yield commit
            if commit.finish_reason:
                return

    def check(self) -> None:
        """Assert that the cache holds exactly the committed tokens but the last, and but the trusted ones."""
        if self._in_flight:
            return  # a pass is writing to it
        held, expected = self._session.cached_length, len(self._committed) - 1 - self._trusted
        if held != expected:
            raise AssertionError(f"the target's cache holds {held} tokens and should hold {expected}")

    def finish(self, pending: PassUnderWay) -> Round:
        """Commit what a submitted pass accepted."""
        waited_from = now_ms()
        if not pending.is_done:
            release_compute_threads()
        verdict, verify_ms = pending.future.result()
        wait_ms = now_ms() - waited_from
        self._in_flight.popleft()
        commit = self._take(pending.proposal, verdict, now_ms() - verify_ms)
        if not pending.proposal.stands(commit):
            self._in_flight.clear()
        elif self._in_flight:
            self._begin_pass()
        return replace(
            commit, wait_ms=wait_ms, pass_tokens=len(pending.proposal) if pending.proposal.continues else None
        )

    @cached_property
    def _worker(self) -> ThreadPoolExecutor:
        return model_thread()

    def _begin_pass(self) -> None:
        first = self._in_flight[0]
        first.future = self._worker.submit(self._timed_pass, first.proposal)

    def _demand_declared(self, proposal: Proposal) -> None:
        if proposal.parents and not self._needs.trees:
            raise SpecbenchError(
                "a tree was proposed to a target of chains",
                "set drafts_trees in the method, or return trees in its needs",
            )

    def _demand_idle(self) -> None:
        if self._in_flight:
            raise RuntimeError("a verification of this text is under way")

    def verified(self, proposal: Proposal | None) -> Generator[Block, Passed, Round]:
        """`verify` for the loop: yields the block to be read, is sent its pass, returns the commit."""
        steps = self.verifying(proposal)
        block = next(steps)
        assert isinstance(block, Block)
        commit = steps.send((yield block))
        assert isinstance(commit, Round)
        return commit

    def _judged(self, proposal: Proposal, rows: torch.Tensor, width: int) -> Verdict:
        """What a pass of this width decides; what it refuses leaves the cache, and nothing is committed."""
        judging = rows[: rows_of(proposal)]  # those behind them judge what follows
        verdict = self._verifier.verdict(proposal, judging, self._committed)
        self.readings.judge(verdict, judging, self._session.hidden_states, len(rows))
        if verdict.path is not None:
            unread = width - len(proposal)
            self._session.keep([*range(unread), *(unread + node for node in verdict.path)])
        cached = len(self._committed) + verdict.accepted - (verdict.next_token is None)
        if verdict.next_token is not None:
            self._session.truncate(cached)
        self._read_ahead = self._session.length - cached
        return verdict

    def _timed_pass(self, proposal: Proposal) -> tuple[Verdict, float]:
        started = now_ms()
        block = block_of(self._session, self._committed, proposal)
        rows = block.passed().logits[-rows_of(proposal) :]
        verdict = self._judged(proposal, rows, len(block.token_ids))
        verify_ms = now_ms() - started
        release_compute_threads()
        return verdict, verify_ms

    def _take(self, proposal: Proposal | None, verdict: Verdict, started: float) -> Round:
        self._trusted = 0
        if proposal is None:
            return self._commit(verdict.own, started)
        accepted = [proposal.tokens[node] for node in verdict.nodes]
        commit = self._commit([*accepted, *verdict.own], started)
        # What a budget or a stop token cuts off was accepted, and is not committed.
        kept, count = verdict.nodes[: len(commit.tokens)], verdict.forced_among
        forced, forced_accepted = count(range(len(proposal))), count(kept)
        commit = replace(commit, forced=forced, forced_accepted=forced_accepted)
        if self._session.restored:
            commit = replace(commit, **asdict(self._session.restored.taken()))
        return proposal.judged(commit, len(kept))

    def _commit(self, tokens: Sequence[int], started: float) -> Round:
        kept, finish_reason = self._request.cut(self._committed, tokens)
        self._committed.extend(kept)
        if finish_reason:
            # What was verified behind the end is no part of the text: nor of the cache.
            self._session.truncate(min(self._session.length, len(self._committed) - 1))
            self._read_ahead = 0
            self.readings.end()
        return Round(kept, finish_reason, verify_ms=now_ms() - started)
