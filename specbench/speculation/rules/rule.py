"""What is known of a rule before it runs, and what it is given when it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from specbench.profile import Speculative
    from specbench.speculation.proposal import Proposal
    from specbench.speculation.rules.verdict import Verdict


class Case(Protocol):
    """A draft and the target's pass over it; what a rule does not ask for is not computed or drawn.

    Row 0 of the pass follows the committed tokens, and row i + 1 drafted token i with all before it; in a tree,
    with all on its path. Where another proposal follows, the last row is left out: accepted whole, such a draft
    gets no token of the target's own, and what comes next is judged by the same distribution that would have
    given it.
    """

    @property
    def proposal(self) -> Proposal:
        """What the edge drafted: at least one token."""

    @property
    def speculative(self) -> Speculative:
        """The profile's settings."""

    @property
    def logits(self) -> torch.Tensor:
        """The target's, penalties applied, shape (rows, vocabulary)."""

    @property
    def choices(self) -> Sequence[int]:
        """The target's choice in each row."""

    @property
    def targets(self) -> torch.Tensor:
        """The distributions that are sampled from, float64, shape (rows, vocabulary)."""

    @property
    def soft_targets(self) -> torch.Tensor:
        """As `targets`, at temperature 1 where the decoding is greedy."""

    @property
    def coins(self) -> Sequence[float]:
        """A number in [0, 1) for each drafted token."""

    @property
    def uniform(self) -> float:
        """A number in [0, 1) for the target's own token."""


@dataclass(frozen=True)
class Rule:
    """What is known of a rule before it runs.

    Args:
        judge: the rule itself.
        lossless: the text, or its distribution, is that of the target alone.
        repeats_control: for a seed it is the control's text, token for token.
        proposes: what the draft does: takes its own `choice` (argmax, or a draw), its `argmax`, or a
            `sample` whose distribution is sent along.
        needs_greedy: it works at temperature 0 only.
        takes_trees: it can judge a tree.
    """

    judge: Callable[[Case], Verdict]
    lossless: bool
    repeats_control: bool = False
    proposes: str = "choice"
    needs_greedy: bool = False
    takes_trees: bool = False
