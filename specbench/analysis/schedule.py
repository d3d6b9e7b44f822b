"""A sequence as a replay sees it: what the target says there, and where the traced draft agrees with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from specbench.bench.traces import Trace
from specbench.errors import SpecbenchError

Length = int | Literal["auto"]
WRONG = -1  # a drafted token that is not the target's; no id of a vocabulary


@dataclass(frozen=True, eq=False)
class Text:
    """One sequence of the target's.

    Args:
        runs: by position, how many tokens from there on the draft would get right in a row, behind the
            target's own prefix; as long as the sequence.
        budget: tokens that were asked for; a sequence that met a stop token is shorter.
        sure: by position, of how many tokens in a row a gate finds the draft sure; empty without a gate.
        tokens: the target's ids; positions stand for them where they are unknown.
        prompt_ids: for drafters that read the prompt; empty where they are unknown.
    """

    prompt_tokens: int
    budget: int
    runs: tuple[int, ...]
    sure: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()
    prompt_ids: tuple[int, ...] = ()

    @classmethod
    def of(cls, agrees: str, budget: int, prompt_tokens: int = 1, sure: str = "") -> Text:
        """A sequence by its agreement, `1` or `0` a position; the first counts for nothing. `sure` likewise."""
        return cls(prompt_tokens, budget, runs_of(agrees), runs_of(sure))

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """The target's ids."""
        return self.tokens or tuple(range(len(self.runs)))

    @property
    def stop_ids(self) -> frozenset[int]:
        """The id that ends it, where it ends before its budget."""
        return frozenset([self.ids[-1]]) if len(self.runs) < self.budget else frozenset()

    def drafted(self, start: int, position: int) -> int:
        """What the draft says at `position`, behind the target's tokens to `start` and its own from there."""
        within = position < len(self.runs) and start < len(self.runs)
        return self.ids[position] if within and position - start < self.runs[start] else WRONG

    def passes(self, position: int, drafted: int) -> bool:
        """Whether a gate lets a draft through unseen; never one in which a stop token may end the sequence."""
        ends = len(self.runs) < self.budget and position + drafted >= len(self.runs)
        return bool(self.sure) and 0 < drafted <= self.sure[position] and not ends


def runs_of(bits: str) -> tuple[int, ...]:
    """By position, how many ones stand in a row from there on."""
    runs = [0] * (len(bits) + 1)
    for position in range(len(bits) - 1, -1, -1):
        runs[position] = runs[position + 1] + 1 if bits[position] == "1" else 0
    return tuple(runs[:-1])


def texts_of(trace: Trace) -> list[Text]:
    """All sequences of a trace.

    Raises:
        SpecbenchError: none is long enough to time: nothing is drafted for a first token.
    """
    if not any(len(text.tokens) > 1 for text in trace.texts):
        raise SpecbenchError(
            "the trace holds no text of two tokens: there is nothing to time",
            "make it with a larger workload.max_new_tokens",
        )
    return [
        Text(
            text.prompt_tokens,
            text.max_new_tokens,
            runs_of(text.agrees),
            tokens=text.tokens,
            prompt_ids=text.prompt_ids or (),
        )
        for text in trace.texts
    ]
