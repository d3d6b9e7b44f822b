"""Rejection sampling of all drafted tokens together."""

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
    """Judge all drafted tokens together and keep the longest prefix that any coin accepts.

    Source: Sun et al. 2025, "Block Verification Accelerates Speculative Decoding", algorithm 2. Lossless, and
    never accepts less in expectation than `rejection`. Arguments as for `rejection.accept`.
    """
    kept, kept_ratio = 0, 1.0
    ratio = 1.0  # the paper's p_i: how much of the prefix's probability the draft has earned
    for index, (token, draft) in enumerate(zip(drafted, drafts, strict=True)):
        ratio = min(ratio * float(targets[index, token]) / draft.probability(token), 1.0)
        if index + 1 == len(drafted):
            chance = ratio
        else:
            q = drafts[index + 1].dense(targets.shape[1], targets.device)
            excess = float((ratio * targets[index + 1] - q).clamp_min(0).sum())
            # At 0 / 0 draft and target are equal behind here, and a longer prefix is accepted for certain.
            chance = excess / (excess + 1 - ratio) if excess > 0 else 0.0
        if coins[index] < chance:
            kept, kept_ratio = index + 1, ratio
    if kept == len(drafted):
        return drawn(kept, targets, uniform)
    q = drafts[kept].dense(targets.shape[1], targets.device)
    return drawn_from_rest(kept, kept_ratio * targets[kept] - q, targets[kept], uniform)


def judge(case: Case) -> Verdict:
    """`accept`, with what it asks for."""
    return accept(case.proposal.tokens, case.proposal.distributions, case.targets, case.coins, case.uniform)


RULE = Rule(judge, lossless=True, proposes="sample")
