"""A text as schedules see it, and its rounds: what is drafted and accepted, whatever it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from specbench.analysis.clock import Prices
from specbench.bench.traces import Trace
from specbench.decoding.lengths import DraftLengths
from specbench.errors import SpecbenchError
from specbench.records import Round

Length = int | Literal["auto"]


@dataclass(frozen=True, eq=False)
class Text:
    """One text of the target's, as schedules see it.

    Args:
        runs: by position, how many tokens from there on the draft would get right in a row, behind the
            target's own prefix; as long as the text.
        budget: tokens that were asked for; a text that met a stop token is shorter.
        sure: by position, of how many tokens in a row a gate finds the draft sure; empty without a gate.
    """

    prompt_tokens: int
    budget: int
    runs: tuple[int, ...]
    sure: tuple[int, ...] = ()

    @classmethod
    def of(cls, agrees: str, budget: int, prompt_tokens: int = 1, sure: str = "") -> Text:
        """A text by its agreement, a `1` or `0` a position; the first counts for nothing. `sure` likewise."""
        return cls(prompt_tokens, budget, runs_of(agrees), runs_of(sure))

    def judged(self, position: int, drafted: int) -> tuple[int, int]:
        """How many of `drafted` tokens behind the first `position` are accepted; how many are committed.

        A stop token ends the text inside a block: what was drafted behind it is neither.
        """
        accepted = min(drafted, self.runs[position])
        return accepted, min(accepted + 1, len(self.runs) - position)

    def passes(self, position: int, drafted: int) -> bool:
        """Whether a gate lets a draft through unseen; never one in which the text may end by a stop token."""
        ends = len(self.runs) < self.budget and position + drafted >= len(self.runs)
        return bool(self.sure) and 0 < drafted <= self.sure[position] and not ends


def runs_of(bits: str) -> tuple[int, ...]:
    """By position, how many ones stand in a row from there on."""
    runs = [0] * (len(bits) + 1)
    for position in range(len(bits) - 1, -1, -1):
        runs[position] = runs[position + 1] + 1 if bits[position] == "1" else 0
    return tuple(runs[:-1])


def texts_of(trace: Trace) -> list[Text]:
    """All texts of a trace.

    Raises:
        SpecbenchError: none is long enough to time: nothing is drafted for a first token.
    """
    if not any(len(text.tokens) > 1 for text in trace.texts):
        raise SpecbenchError(
            "the trace holds no text of two tokens: there is nothing to time",
            "make it with a larger workload.max_new_tokens",
        )
    return [Text.of(text.agrees, text.max_new_tokens, text.prompt_tokens) for text in trace.texts]


class Step(NamedTuple):
    """One round: what was drafted, behind how many tokens new to the draft, and what became of it.

    Args:
        guessed: whether the draft, had it gone on, would have said the target's own token behind its proposal.
        trusted: tokens that a gate let pass since the last verification, which this one reads too.
        verified: and not let pass by a gate.
    """

    drafted: int
    unread: int
    accepted: int
    committed: int
    guessed: bool = False
    trusted: int = 0
    verified: bool = True

    @property
    def width(self) -> int:
        """Tokens of the verification's pass."""
        return self.trusted + self.drafted + 1

    @property
    def unread_behind(self) -> int:
        """The last drafted token was never read; where it stands, it and the bonus token are both new."""
        return 2 if self.drafted and self.accepted == self.drafted else 1


def rounds(text: Text, draft_length: int) -> list[Step]:
    """The rounds of `speculative` with a fixed draft length; no cost has a say in them."""
    position, unread, trusted, found = 1, 1, 0, []
    while position < len(text.runs):
        step = step_at(text, position, unread, draft_length, trusted)
        found.append(step)
        unread, position = step.unread_behind, position + step.committed
        trusted = 0 if step.verified else trusted + step.committed
    return found


def adaptive_rounds(text: Text, prices: Prices, step_ms: float, trips: bool) -> list[Step]:
    """The rounds of `speculative` with `draft_length: auto`, by the controller of the real one.

    Args:
        step_ms: a step of the draft, where it runs.
        trips: whether a link lies between draft and target.
    """
    lengths, position, unread, trusted, found = DraftLengths("auto"), 1, 1, 0, []
    while position < len(text.runs):
        step = step_at(text, position, unread, lengths.next(text.budget - position - 1), trusted)
        if step.verified:
            drafting = prices.draft_ms(step.drafted, step.unread) * step_ms / prices.step_ms
            rtt_ms = prices.trip_ms(step.drafted, step.committed) if trips else 0.0
            lengths.observe(commit_of(prices, step), step.drafted, drafting, step.drafted, rtt_ms or None)
        found.append(step)
        unread, position = step.unread_behind, position + step.committed
        trusted = 0 if step.verified else trusted + step.committed
    return found


def commit_of(prices: Prices, step: Step) -> Round:
    """What the controller is told of a round; it asks for no token."""
    return Round((), accepted=step.accepted, verify_ms=prices.pass_ms(step.width))


def step_at(text: Text, position: int, unread: int, draft_length: int, trusted: int = 0) -> Step:
    """The round that begins behind so many tokens."""
    # The target adds a token of its own, so a longer draft than this could not be committed.
    drafted = min(draft_length, text.budget - position - 1)
    if text.passes(position, drafted):
        return Step(
            drafted, unread, 0, min(drafted, len(text.runs) - position), trusted=trusted, verified=False
        )
    return Step(drafted, unread, *text.judged(position, drafted), text.runs[position] > drafted, trusted)
