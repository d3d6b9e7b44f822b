"""Rejection sampling of a draft that is certain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from specbench.speculation.rules.rule import Case, Rule
from specbench.speculation.rules.verdict import Verdict, drawn, drawn_from_rest

if TYPE_CHECKING:
    import torch


def accept(drafted: Sequence[int], targets: torch.Tensor, coins: Sequence[float], uniform: float) -> Verdict:
    """`rejection` for a draft that proposes one token with certainty: accept x with probability p(x).

    A refused token is drawn anew from the other tokens. No distribution has to be sent. Arguments as for
    `rejection.accept`.
    """
    accepted = 0
    for token, target, coin in zip(drafted, targets, coins, strict=False):
        if coin >= float(target[token]):
            rest = target.clone()
            rest[token] = 0
            return drawn_from_rest(accepted, rest, target, uniform)
        accepted += 1
    return drawn(accepted, targets, uniform)


def judge(case: Case) -> Verdict:
    """`accept`, with what it asks for."""
    return accept(case.proposal.tokens, case.targets, case.coins, case.uniform)


RULE = Rule(judge, lossless=True, proposes="argmax")
