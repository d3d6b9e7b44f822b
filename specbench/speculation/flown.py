"""A proposal in flight to a target that decodes alone meanwhile, and what its fate says of the draft."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from specbench.results.records import Round
from specbench.speculation.overtaking import UnderWay
from specbench.speculation.proposal import Proposal


@dataclass(eq=False)
class Flown:
    """A proposal in flight.

    Args:
        pending: what the target knows of it.
        sent: as it was sent.
        draft_ms: what drafting it took.
        choice: how it was drafted, as of `Round`; empty where nothing was.

    Attributes:
        met: of a tree, tokens along its paths that the target has said alone.
    """

    pending: UnderWay
    sent: Proposal
    draft_ms: float
    choice: str
    met: int = field(default=0, init=False)
    _first_choices: Sequence[int] = field(default=(), init=False)

    def __post_init__(self) -> None:
        """Remember what of it stands first."""
        self._first_choices = self.sent.first_choices

    def said(self, token: int, is_met: bool) -> bool:
        """The target has said this; whether the draft's first choice was the same."""
        is_first = tuple(self._first_choices[:1]) == (token,)
        self.met += is_met
        self._first_choices = self.pending.proposal.first_choices if is_met else ()
        return is_first

    def judged(self, part: Round) -> Round:
        """The verdict on it, as one on a chain."""
        return as_chain(part, self._first_choices) if self.choice == "tree" else part


def as_chain(part: Round, first_choices: Sequence[int]) -> Round:
    """The verdict on a tree, as one on the chain of its first choices."""
    accepted = part.tokens[: part.accepted or 0]
    pairs = zip(first_choices, accepted, strict=False)
    stood = next((at for at, (mine, its) in enumerate(pairs) if mine != its), len(accepted))
    count = min(stood, len(first_choices))
    return replace(part, drafted=len(first_choices), accepted=count, pass_tokens=(part.drafted or 0) + 1)
