"""The cloud as a method sees it: begin, verify, decode. Verification runs where the target runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from specbench.clock import now_ms
from specbench.config import Options
from specbench.decoding import verification
from specbench.decoding.engine import Engine
from specbench.decoding.judge import Judge
from specbench.decoding.proposal import Proposal
from specbench.decoding.request import Commit, Request

NO_DRAFT = Proposal()


class Target:
    """Commits tokens of one text at a time, by one loop for the control and for every draft.

    Between calls the cache holds all committed tokens but the last, and but those that it trusted unseen; the
    next pass reads them.
    """

    def __init__(self, engine: Engine, options: Options) -> None:
        self._engine = engine
        self._options = options

    def begin(self, request: Request) -> Commit:
        """Prefill the prompt and commit the target's first token."""
        started = now_ms()
        self._request = request
        self._session = self._engine.session(len(request.prompt_ids) + request.max_new_tokens)
        self._judge = Judge(self._options, request.seed)
        self._committed = list(request.prompt_ids)
        self._trusted = 0
        logits = self._session.prefill(request.prompt_ids)
        verdict = self._judge.verdict(NO_DRAFT, logits, self._committed)
        return self._commit([verdict.next_token], 0, started)

    @property
    def remaining(self) -> int:
        """Tokens of the budget that are not spent."""
        return self._request.max_new_tokens - (len(self._committed) - len(self._request.prompt_ids))

    def verify(self, proposal: Proposal = NO_DRAFT) -> Commit:
        """Check drafted tokens in one pass; commit those accepted and one token of the target's own.

        Without a draft this is one step of plain autoregressive decoding.
        """
        started = now_ms()
        base = len(self._committed)
        unread = self._committed[self._session.length :]
        logits = self._session.extend([*unread, *proposal.tokens])[len(unread) - 1 :]
        verdict = self._judge.verdict(proposal, logits, self._committed)
        self._session.truncate(base + verdict.accepted)
        self._trusted = 0
        return self._commit(
            [*proposal.tokens[: verdict.accepted], verdict.next_token], verdict.accepted, started
        )

    def trust(self, tokens: Sequence[int]) -> Commit:
        """Commit drafted tokens without a look at them, as a gate asks for; the next pass reads them."""
        commit = self._commit(tokens, 0, now_ms())
        self._trusted += len(commit.tokens)
        return commit

    def decode(self) -> Iterator[Commit]:
        """Go on alone, token by token, to the end of the text."""
        while True:
            commit = self.verify()
            yield commit
            if commit.finish_reason:
                return

    def check(self) -> None:
        """Assert that the cache holds exactly the committed tokens but the last, and but the trusted ones."""
        expected = len(self._committed) - 1 - self._trusted
        if self._session.cached_length != expected:
            raise AssertionError(
                f"the target's cache holds {self._session.cached_length} tokens and should hold {expected}"
            )

    def _commit(self, tokens: Sequence[int], accepted: int, started: float) -> Commit:
        kept, finish_reason = verification.cut(tokens, self.remaining, self._request.stop_ids)
        self._committed.extend(kept)
        if finish_reason:
            # What was verified behind the end is no part of the text: nor of the cache.
            self._session.truncate(min(self._session.length, len(self._committed) - 1))
        return Commit(kept, min(accepted, len(kept)), finish_reason, now_ms() - started)
