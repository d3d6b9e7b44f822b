"""A target that a server of another engine runs: `speculation.target.LocalTarget`, in completions."""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from specbench.clock import now_ms
from specbench.engine.session import Block, Passed
from specbench.engine.threads import release_compute_threads
from specbench.errors import SpecbenchError
from specbench.results.records import Round
from specbench.servers.answers import Completion, Judged, Part, Question, Token
from specbench.servers.base import HttpServer
from specbench.speculation import rules
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Pending, Request

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Answered:
    """What a request of one round brought.

    Args:
        read: tokens that the server read to judge a draft.
    """

    accepted: int
    tokens: tuple[int, ...]
    elapsed_ms: float
    bytes_up: int
    bytes_down: int
    read: int | None = None


class OpenAiTarget:
    """Commits tokens of one text at a time, greedily.

    A server verifies in its own way (`HttpServer.judged`), and `Round.prefilled` says how many tokens it read
    for it. Alone it streams, from its own cache.

    Args:
        server: over a connection of its own.
        tokenizer: makes ids of text, where a server tells text alone.
        rtt_ms: round trip of a question that computes nothing. Of a round only its whole duration is seen from
            here, so this much of it counts as the link's, and the rest as the target's.
        verifies: drafts will be verified; otherwise `begin` has the server go on at once.
        probe: some ids, to learn what the server can do before anything is timed.

    Raises:
        SpecbenchError: the server does not send what is needed.
    """

    top_ids = ()
    hidden_states = None

    def __init__(
        self,
        server: HttpServer,
        tokenizer: PreTrainedTokenizerBase,
        rtt_ms: float,
        verifies: bool,
        probe: Sequence[int],
    ) -> None:
        self._server, self._tokenizer = server, tokenizer
        self.rtt_ms = rtt_ms
        self._verifies = verifies
        self.streams = not verifies
        self._stream: Generator[Part, None, None] | None = None
        self._pending: OpenAiPending | None = None
        question = self._question(probe, 1, secrets.token_hex(8), frozenset())
        if verifies:
            server.judged(replace(question, prompt=tuple(probe[:-1])), probe[-1:])
        else:
            server.complete(question)

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
        """Refused: a server sees every draft.

        Raises:
            SpecbenchError: always.
        """
        raise SpecbenchError("cloud.backend: openai verifies every draft", "add --set speculative.gate=null")

    def submit(self, proposal: Proposal | None = None) -> Pending:
        """Send a draft on its way and return at once.

        Raises:
            RuntimeError: a verification is under way for this text.
        """
        if self._pending:
            raise RuntimeError("a verification of this text is under way")
        self._stop()
        self._pending = OpenAiPending(self, None if proposal is None else tuple(proposal.tokens))
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

    def finish(self, pending: OpenAiPending) -> Round:
        """Commit what a request accepted."""
        waited_from = now_ms()
        if not pending.is_done:
            release_compute_threads()
        try:
            found = pending.future.result()
        finally:
            self._pending = None
        waited_ms = now_ms() - waited_from
        commit = replace(self._commit(found, asks=True), wait_ms=waited_ms, prefilled=found.read)
        if pending.drafted is None:
            return commit
        return Proposal(pending.drafted).judged(commit, min(found.accepted, len(commit.tokens)))

    def _judged(self, drafted: tuple[int, ...]) -> Answered:
        """How many drafted tokens stand, what is committed, and what it took; in the worker's thread."""
        started = now_ms()
        question = self._question(self._committed, 1, self._salt, self._request.stop_ids)
        found: Judged | Completion
        if drafted:
            found = self._server.judged(question, drafted)
            verdict = rules.matching(drafted, found.own)
        else:
            found = self._server.complete(question)
            verdict = rules.matching((), self._ids(found.text, found.tokens))
        tokens = (*drafted[: verdict.accepted], *verdict.own)
        if not tokens:
            raise self._server.client.error("answers a request for one token with none")
        read = found.read if isinstance(found, Judged) else None
        elapsed_ms = now_ms() - started
        return Answered(verdict.accepted, tokens, elapsed_ms, found.bytes_up, found.bytes_down, read)

    def _commit(self, found: Answered, asks: bool) -> Round:
        """Add to the text what an answer says; `asks` where it was waited for from the question on."""
        kept, finish_reason = self._request.cut(self._committed, found.tokens)
        self._committed.extend(kept)
        return Round(
            kept,
            finish_reason,
            verify_ms=max(found.elapsed_ms - self.rtt_ms, 0.0) if asks else found.elapsed_ms,
            wait_ms=found.elapsed_ms,
            bytes_up=found.bytes_up,
            bytes_down=found.bytes_down,
            rtt_ms=self.rtt_ms if asks else None,
            streamed=not asks,
        )

    def _read_on(self) -> Round:
        """Commit what the stream brings next; it is asked for where there is none."""
        asks = self._stream is None
        if self._stream is None:
            self._has_ended, self._arrived_ms, self._said = False, now_ms(), Completion()
            stop_ids = self._request.stop_ids
            question = self._question(self._committed, self.remaining, self._salt, stop_ids)
            self._stream = self._server.parts(question, self._said)
        release_compute_threads()
        part, before_ms = next(self._stream, None), self._arrived_ms
        self._arrived_ms = now_ms()
        tokens = self._ids(part.text, part.tokens) if part else self._end()
        sizes = (part.bytes_up, part.bytes_down) if part else (0, 0)
        commit = self._commit(Answered(0, tokens, self._arrived_ms - before_ms, *sizes), asks)
        self._has_ended = commit.finish_reason is not None
        return commit

    def _end(self) -> tuple[int, ...]:
        """What a stream says by its end: a stop token that the server does not tell.

        Raises:
            SpecbenchError: it ended too early, or read another prompt.
        """
        self._demand_prompt()
        said, told_ids = self._said, self._server.speaks_ids
        if said.finish_reason == "stop" and self._request.stop_ids and not told_ids:
            return (min(self._request.stop_ids),)
        budget = self._request.max_new_tokens
        came = f"{budget - self.remaining} of {budget} tokens"
        if not told_ids and said.completion_tokens is not None:
            came = (
                f"{came} (it counts {said.completion_tokens}; these are the tokenizer's of its pieces of text)"
            )
        raise self._server.client.error(
            f"ended a text with finish reason '{said.finish_reason}' after {came} and without a stop token",
            "see whether it has other stop tokens or a shorter context than cloud.model"
            + ("" if told_ids else "; vllm and llama.cpp servers tell token ids"),
        )

    def _demand_prompt(self) -> None:
        """Refuse a server that made other tokens of a prompt that was sent as text, where it counts them."""
        read, sent = self._said.prompt_tokens, len(self._request.prompt_ids)
        if not self._server.speaks_ids and read not in (None, sent):
            raise self._server.client.error(
                f"read {read} prompt tokens where the prompt has {sent}",
                "it has another tokenizer, or puts a token of its own (BOS) before that of the chat template",
            )

    def _question(self, prompt: Sequence[int], most: int, salt: str, stop_ids: frozenset[int]) -> Question:
        if self._server.speaks_ids:
            return Question(tuple(prompt), most, salt=salt, stop_ids=stop_ids)
        return Question(
            str(self._tokenizer.decode(list(prompt), clean_up_tokenization_spaces=False)), most, salt=salt
        )

    def _ids(self, text: str, tokens: Sequence[Token] | None) -> tuple[int, ...]:
        """What was said, in ids: the tokenizer's of that piece of text, where the server tells none."""
        if self._server.speaks_ids and tokens is not None:
            return tuple(map(int, tokens))
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def _stop(self) -> None:
        """Read a stream no further; one that has ended leaves its connection to the next question."""
        if self._stream is not None and self._has_ended:
            for _ in self._stream:
                pass
            self._demand_prompt()
        elif self._stream is not None:
            self._stream.close()
        self._stream = None

    @cached_property
    def _worker(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, "server")


class OpenAiPending:
    """A verification that the server was asked for."""

    future: Future

    def __init__(self, target: OpenAiTarget, drafted: tuple[int, ...] | None) -> None:
        self._target = target
        self.drafted = drafted

    @property
    def is_done(self) -> bool:
        """Whether `result` would return at once."""
        return self.future.done()

    def result(self) -> Round:
        """Wait for the answer, and commit what the server accepted. To be called once."""
        return self._target.finish(self)
