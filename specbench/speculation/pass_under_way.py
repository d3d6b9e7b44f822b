"""A verification in the worker thread of a target in this process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from specbench.results.records import Round
from specbench.speculation.proposal import Proposal
from specbench.speculation.rules import Verdict


class PassUnderWay:
    """A pass of the target, or one that waits in its thread for the verdict before it.

    Args:
        finish: commits what the pass accepted.

    Attributes:
        future: the verdict, and what the pass took in milliseconds.
    """

    future: Future[tuple[Verdict, float]]

    def __init__(self, finish: Callable[[PassUnderWay], Round], proposal: Proposal) -> None:
        self._finish = finish
        self.proposal = proposal

    @property
    def is_done(self) -> bool:
        """Whether `result` would return at once; to be asked of the oldest one."""
        return self.future.done()

    def result(self) -> Round:
        """Wait for the pass, and commit what it accepted."""
        return self._finish(self)
