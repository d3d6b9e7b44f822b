"""The target that a vLLM server runs, as an edge sees it: `speculation.target.LocalTarget`, in completions."""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property

from specbench.clock import now_ms
from specbench.cloud.vllm.client import Completion, VllmServer
from specbench.engine.session import Block, Passed
from specbench.engine.threads import release_compute_threads
from specbench.errors import ExitCode, SpecbenchError
from specbench.results.records import Round
from specbench.speculation import rules
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Pending, Request


class VllmTarget:
    """Commits tokens of one text at a time, greedily.

    The server keeps nothing between rounds that a verification could go on from: it reads the whole text anew,
    and `Round.prefilled` says how much that was. Alone it streams, from its own cache.

    Args:
        rtt_ms: round trip of a question that computes nothing. Of a round only its whole duration is seen from
            here, so this much of it counts as the link's, and the rest as the target's.
        verifies: drafts will be verified; otherwise `begin` has the server go on at once.
        probe: some ids, to learn what the server can do before anything is timed.

    Raises:
        SpecbenchError: the server does not send what is needed.
    """

    top_ids = ()
    hidden_states = None

    def __init__(self, server: VllmServer, rtt_ms: float, verifies: bool, probe: Sequence[int]) -> None:
        self._server = server
        self.rtt_ms = rtt_ms
        self._verifies = verifies
        self.streams = not verifies
        self._stream: Iterator[Completion] | None = None
        self._pending: VllmPending | None = None
        self._server.complete(probe, secrets.token_hex(8), verifies=verifies)

    def begin(self, request: Request) -> Round:
        """Have the prompt read, and commit the target's first token."""
        if self._pending:  # of a text that was given up
            self._pending.result()
        self._stop()
        self._request = request
        self._committed = list(request.prompt_ids)
        self._salt = secrets.token_hex(8)
        return self.verify() if self._verifies else self._read_on()

    @property
    def remaining(self) -> int:
        """Tokens of the budget that are not spent."""
        return self._request.max_new_tokens - (len(self._committed) - len(self._request.prompt_ids))

    def verify(self, proposal: Proposal | None = None) -> Round:
        """Have drafted tokens checked; commit those accepted and one token of the target's own."""
        return self.submit(proposal).result()

    def trust(self, tokens: Sequence[int]) -> Round:
        """Refused: a vLLM server sees every draft.

        Raises:
            SpecbenchError: always.
        """
        raise SpecbenchError("cloud.backend: vllm verifies every draft", "add --set speculative.gate=null")

    def submit(self, proposal: Proposal | None = None) -> Pending:
        """Send a draft on its way and return at once.

        Raises:
            RuntimeError: a verification is under way for this text.
        """
        if self._pending:
            raise RuntimeError("a verification of this text is under way")
        self._stop()
        self._pending = VllmPending(self, None if proposal is None else tuple(proposal.tokens))
        self._pending.future = self._worker.submit(self._judged, self._pending.drafted or ())
        return self._pending

    def verified(self, proposal: Proposal) -> Generator[Block, Passed, Round]:
        """`verify` for the loop; its passes are the server's business."""
        return self.verify(proposal)
        yield

    def decode(self) -> Iterator[Round]:
        """Go on alone, token by token, to the end of the text: one request, streamed."""
        while True:
            commit = self._read_on()
            yield commit
            if commit.finish_reason:
                return

    def check(self) -> None:
        """Nothing: between requests the server holds no text of ours."""

    def finish(self, pending: VllmPending) -> Round:
        """Commit what a request accepted."""
        waited_from = now_ms()
        if not pending.is_done:
            release_compute_threads()
        try:
            accepted, tokens, found, elapsed_ms = pending.future.result()
        finally:
            self._pending = None
        waited_ms = now_ms() - waited_from
        commit = self._commit(tokens, found, elapsed_ms, asks=True)
        read = len(self._committed) - len(commit.tokens) + len(pending.drafted) if pending.drafted else None
        commit = replace(commit, wait_ms=waited_ms, prefilled=read)
        if pending.drafted is None:
            return commit
        return replace(commit, drafted=len(pending.drafted), accepted=min(accepted, len(commit.tokens)))

    def _judged(self, drafted: tuple[int, ...]) -> tuple[int, tuple[int, ...], Completion, float]:
        """How many drafted tokens stand, what is committed, and what it took; in the worker's thread."""
        started = now_ms()
        stop_ids = sorted(self._request.stop_ids)
        found = self._server.complete([*self._committed, *drafted], self._salt, stop_ids, bool(drafted))
        elapsed_ms = now_ms() - started
        # The top id in the place of prompt id i stands at i - 1: the first id follows nothing.
        choices = [*found.top_ids[len(self._committed) - 1 :], *found.tokens] if drafted else found.tokens
        verdict = rules.matching(drafted, choices)
        return verdict.accepted, (*drafted[: verdict.accepted], *verdict.own), found, elapsed_ms

    def _commit(self, tokens: Sequence[int], found: Completion, elapsed_ms: float, asks: bool) -> Round:
        """Add to the text what an answer says; `asks` where it was waited for from the question on."""
        kept, finish_reason = rules.cut(tokens, self.remaining, self._request.stop_ids)
        self._committed.extend(kept)
        return Round(
            kept,
            finish_reason,
            verify_ms=max(elapsed_ms - self.rtt_ms, 0.0) if asks else elapsed_ms,
            wait_ms=elapsed_ms,
            bytes_up=found.bytes_up,
            bytes_down=found.bytes_down,
            rtt_ms=self.rtt_ms if asks else None,
            streamed=not asks,
        )

    def _read_on(self) -> Round:
        """Commit what the stream brings next; it is asked for where there is none."""
        asks = self._stream is None
        if self._stream is None:
            self._has_ended, self._arrived_ms = False, now_ms()
            stop_ids = sorted(self._request.stop_ids)
            self._stream = self._server.stream(self._committed, self.remaining, self._salt, stop_ids)
        release_compute_threads()
        found, before_ms = next(self._stream, None), self._arrived_ms
        if found is None:
            raise SpecbenchError(
                f"the vLLM server at {self._server.url} ended a text before a stop token and before its budget",
                "see its log",
                ExitCode.RUN,
            )
        self._arrived_ms = now_ms()
        commit = self._commit(found.tokens, found, self._arrived_ms - before_ms, asks)
        self._has_ended = commit.finish_reason is not None
        return commit

    def _stop(self) -> None:
        """Read a stream no further; one that has ended leaves its connection to the next question."""
        if self._stream is not None and self._has_ended:
            for _ in self._stream:
                pass
        elif self._stream is not None:
            self._stream.close()
        self._stream = None

    @cached_property
    def _worker(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, "vllm")


class VllmPending:
    """A verification that the server was asked for."""

    future: Future

    def __init__(self, target: VllmTarget, drafted: tuple[int, ...] | None) -> None:
        self._target = target
        self.drafted = drafted

    @property
    def is_done(self) -> bool:
        """Whether `result` would return at once."""
        return self.future.done()

    def result(self) -> Round:
        """Wait for the answer, and commit what the server accepted. To be called once."""
        return self._target.finish(self)
