"""Draft and target in one place: a target whose `decode` speculates, so that a cloud can do all of it alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from specbench.clock import now_ms
from specbench.engine.base import Engine
from specbench.engine.batch import Steps
from specbench.profile import Options
from specbench.results.records import Round
from specbench.speculation.drafter import ModelDrafter
from specbench.speculation.loop import SpeculativeLoop
from specbench.speculation.request import Needs, Request
from specbench.speculation.target import LocalTarget


class ColocatedTarget(LocalTarget):
    """Commits what `speculative` commits, with nothing between draft and target; streamed as `decode` is."""

    def __init__(
        self, engine: Engine, options: Options, drafter: ModelDrafter, needs: Needs | None = None
    ) -> None:
        super().__init__(engine, options, needs)
        self._drafter = drafter

    def begin(self, request: Request) -> Round:
        """Prefill the prompt on both sides and commit the target's first token."""
        started = now_ms()
        self._drafter.begin(request)
        draft_ms = now_ms() - started
        commit = super().begin(request)
        self._drafter.commit(commit.tokens, 0)
        return replace(commit, draft_ms=draft_ms)

    def resume(self, request: Request, tokens: Sequence[int], draws: tuple[int, int, int]) -> None:
        """Take up a text that another one began and committed `tokens` of."""
        super().resume(request, tokens, draws)
        self._drafter.begin(request)
        self._drafter.skip(draws[2])
        self._drafter.commit(tokens, 0)

    @property
    def draws(self) -> tuple[int, int, int]:
        """As of every target, with what the draft has drawn."""
        return *self._verifier.draws, self._drafter.drawn

    def decoding(self) -> Steps[Round]:
        """Draft and verify, round by round, to the end of the text; in steps."""
        loop = SpeculativeLoop(self._drafter, self, self._options.speculative.draft_length)
        return loop.rounds(self._request)

    def release(self) -> None:
        """Free the caches on both sides."""
        super().release()
        self._drafter.release()

    def check(self) -> None:
        """Cache lengths, on both sides."""
        super().check()
        self._drafter.check()
