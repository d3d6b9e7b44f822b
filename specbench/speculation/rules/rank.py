"""Accept what is among the target's likeliest tokens."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

from specbench.speculation.rules.rule import Case, Rule
from specbench.speculation.rules.verdict import Verdict, chosen

if TYPE_CHECKING:
    import torch


def accept(drafted: Sequence[int], scores: torch.Tensor, target_choices: Sequence[int], within: int) -> Verdict:
    """Accept while the token is among the target's `within` most likely that it can say at all. Lossy.

    Args:
        scores: the target's logits or probabilities, shape (drafted + 1, vocabulary).
        target_choices: as for `greedy.matching`.
    """
    accepted = 0
    for token, row in zip(drafted, scores, strict=False):
        if row[token] == -inf or int((row > row[token]).sum()) >= within:
            break
        accepted += 1
    return chosen(accepted, target_choices)


def judge(case: Case) -> Verdict:
    """`accept`, with what it asks for."""
    return accept(case.proposal.tokens, case.logits, case.choices, case.speculative.rank)


RULE = Rule(judge, lossless=False)
