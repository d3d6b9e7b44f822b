"""Rejection sampling against the distributions that the draft was drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from specbench.speculation.rules.rule import Case, Rule
from specbench.speculation.rules.verdict import Verdict, drawn, drawn_from_rest

if TYPE_CHECKING:
    import torch

    from specbench.speculation.proposal import DraftDistribution


def accept(
    drafted: Sequence[int],
    drafts: Sequence[DraftDistribution],
    targets: torch.Tensor,
    coins: Sequence[float],
    uniform: float,
) -> Verdict:
    """Accept token x with probability min(1, p(x) / q(x)); at the first refusal draw from max(p - q, 0).

    Source: Leviathan et al. 2023, algorithm 1; Chen et al. 2023, algorithm 2. Lossless for the q that x was
    really drawn from.

    Args:
        drafts: q of each drafted token.
        targets: p, float64 of shape (drafted + 1, vocabulary), row i conditioned on the first i drafted
            tokens; one row less where another proposal follows.
        coins: one for each drafted token.
        uniform: for the target's own token.
    """
    accepted = 0
    for token, draft, target, coin in zip(drafted, drafts, targets, coins, strict=False):
        if coin * draft.probability(token) >= float(target[token]):
            rest = target - draft.dense(len(target), target.device)
            return drawn_from_rest(accepted, rest, target, uniform)
        accepted += 1
    return drawn(accepted, targets, uniform)


def judge(case: Case) -> Verdict:
    """`accept`, with what it asks for."""
    return accept(case.proposal.tokens, case.proposal.distributions, case.targets, case.coins, case.uniform)


RULE = Rule(judge, lossless=True, proposes="sample")
