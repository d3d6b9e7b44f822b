"""Accept what is not unlikely, asking less where the target is unsure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from specbench.speculation.rules.rule import Case, Rule
from specbench.speculation.rules.verdict import Verdict, chosen

if TYPE_CHECKING:
    import torch


def accept(
    drafted: Sequence[int],
    targets: torch.Tensor,
    target_choices: Sequence[int],
    epsilon: float,
    delta: float,
) -> Verdict:
    """Accept while p(x) > min(ε, δ·exp(-H(p))), H being the entropy in nats. Lossy.

    Source: Cai et al. 2024, "Medusa", section 2.3.1, typical acceptance.

    Args:
        targets: p, as for `rejection.accept`; at temperature 0 that of temperature 1.
        target_choices: as for `greedy.matching`.
    """
    accepted = 0
    for token, row in zip(drafted, targets, strict=False):
        if float(row[token]) <= min(epsilon, delta * math.exp(-entropy(row))):
            break
        accepted += 1
    return chosen(accepted, target_choices)


def entropy(probabilities: torch.Tensor) -> float:
    """Of a distribution of shape (vocabulary,), in nats."""
    return -float(probabilities.xlogy(probabilities).sum())


def judge(case: Case) -> Verdict:
    """`accept`, with what it asks for."""
    settings = case.speculative
    bounds = settings.typical_epsilon, settings.typical_delta
    return accept(case.proposal.tokens, case.soft_targets, case.choices, *bounds)


RULE = Rule(judge, lossless=False)
