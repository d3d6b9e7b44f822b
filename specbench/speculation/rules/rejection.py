"""Rejection sampling against the distributions that the draft was drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from specbench.speculation.rules.rule import Case, Rule
from specbench.speculation.rules.verdict import Verdict, drawn, drawn_from_rest, rest_of

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
            return drawn_from_rest(accepted, target - draft.dense(len(target), target.device), target, uniform)
        accepted += 1
    return drawn(accepted, targets, uniform)


def accept_tree(
    drafted: Sequence[int],
    parents: Sequence[int],
    drafts: Sequence[DraftDistribution],
    targets: torch.Tensor,
    coins: Sequence[float],
    uniform: float,
) -> Verdict:
    """Judge siblings in turn, each against what those before it left of the target's distribution.

    The first one that stands is gone on from; where all are refused, the own token is drawn from what they
    left. Each sibling is judged by what it was drawn from, which is q without those before it.

    Source: recursive rejection sampling (Jeon et al. 2024, "Recursive Speculative Decoding"), after SpecInfer's
    (Miao et al. 2024), whose siblings are drawn with replacement. Lossless as long as no token decided itself
    whether it is in the tree: one that was drawn and left out for what it is would bias the rule.

    Args:
        parents: as of a `Proposal`.
        drafts: q of each parent, in the order in which `parents` names them first.
        targets: p, float64 of shape (drafted + 1, vocabulary): behind the committed tokens, then behind each
            node.
        coins: one for each node.
        uniform: for the target's own token.
    """
    siblings: dict[int, list[int]] = {}
    for node, parent in enumerate(parents):
        siblings.setdefault(parent, []).append(node)
    drawn_from = dict(zip(siblings, drafts, strict=True))
    path: list[int] = []
    at = -1
    rest = targets[0]
    while at in siblings:
        draft = drawn_from[at]
        for node in siblings[at]:
            if coins[node] * draft.probability(drafted[node]) < float(rest[drafted[node]]):
                path.append(node)
                break
            weights = rest_of(rest, rest - draft.dense(len(rest), rest.device))
            rest = weights / weights.sum()
            draft = draft.without(drafted[node])
        else:
            break
        at = path[-1]
        rest = targets[at + 1]
    return replace(drawn(0, rest[None], uniform), accepted=len(path), path=tuple(path))


def judge(case: Case) -> Verdict:
    """`accept` or `accept_tree`, with what they ask for."""
    proposal = case.proposal
    chances = proposal.distributions, case.targets, case.coins, case.uniform
    if proposal.parents is None:
        return accept(proposal.tokens, *chances)
    return accept_tree(proposal.tokens, proposal.parents, *chances)


RULE = Rule(judge, lossless=True, proposes="sample", takes_trees=True)
