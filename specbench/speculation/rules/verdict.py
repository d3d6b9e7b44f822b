"""What a rule decides, and the token that the target puts behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Verdict:
    """How many drafted tokens stand, and the target's own token behind them (bonus or correction).

    There is none where all stand and another proposal follows.

    Args:
        path: of a tree, the indices of the accepted tokens, each the parent of the next; `None` for a chain,
            whose first `accepted` tokens they are.
        forced: indices of the drafted tokens beside which the request's grammar allows no other; `None` without
            a grammar.
    """

    accepted: int
    next_token: int | None
    path: tuple[int, ...] | None = None
    forced: frozenset[int] | None = None

    @property
    def nodes(self) -> Sequence[int]:
        """Indices of the accepted tokens in their proposal."""
        return range(self.accepted) if self.path is None else self.path

    @property
    def own(self) -> tuple[int, ...]:
        """The target's own token, where there is one."""
        return () if self.next_token is None else (self.next_token,)

    def forced_among(self, nodes: Sequence[int]) -> int | None:
        """How many tokens with these indices were forced; `None` without a grammar."""
        return None if self.forced is None else len(self.forced.intersection(nodes))


def chosen(accepted: int, target_choices: Sequence[int]) -> Verdict:
    """A verdict whose own token is the target's choice, where it has one."""
    return Verdict(accepted, target_choices[accepted] if accepted < len(target_choices) else None)


def drawn(accepted: int, targets: torch.Tensor, uniform: float) -> Verdict:
    """A verdict whose own token is drawn from the target's distribution, where there is one."""
    from specbench.speculation.sampling import draw  # imports torch; the table of rules is read without it

    return Verdict(accepted, draw(targets[accepted], uniform) if accepted < len(targets) else None)


def drawn_from_rest(accepted: int, rest: torch.Tensor, target: torch.Tensor, uniform: float) -> Verdict:
    """A verdict whose own token is drawn from what the draft left of the target's probability."""
    from specbench.speculation.sampling import draw

    return Verdict(accepted, draw(rest_of(target, rest), uniform))


def rest_of(target: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
    """What a refusal leaves of the target's distribution, as weights: `rest` where it is positive."""
    rest = rest.clamp_min(0)
    # A refusal proves that something is left; only rounding can have taken all of it away.
    return rest if float(rest.sum()) > 0 else target
