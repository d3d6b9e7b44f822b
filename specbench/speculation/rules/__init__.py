"""Which drafted tokens the target accepts: pure functions, no model, no state.

The target's distributions are float64 tensors of shape (drafted + 1, vocabulary), row i conditioned on the
first i drafted tokens; draws come in as numbers in [0, 1), so that equal arguments give equal verdicts. Where
another proposal follows, the last row is left out: accepted whole, such a draft gets no token of the target's
own, and what comes next is judged by the same distribution that would have given it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from specbench.speculation.proposal import DraftDistribution


@dataclass(frozen=True)
class Rule:
    """What is known of a rule before it runs.

    Args:
        lossless: the text, or its distribution, is that of the target alone.
        repeats_control: for a seed it is the control's text, token for token.
        proposes: what the draft does: takes its own `choice` (argmax, or a draw), its `argmax`, or a
            `sample` whose distribution is sent along.
        needs_greedy: it works at temperature 0 only.
    """

    lossless: bool
    repeats_control: bool = False
    proposes: str = "choice"
    needs_greedy: bool = False


RULES = {
    "greedy": Rule(lossless=True, repeats_control=True, needs_greedy=True),
    "coupled": Rule(lossless=True, repeats_control=True),
    "rejection": Rule(lossless=True, proposes="sample"),
    "block": Rule(lossless=True, proposes="sample"),
    "one_hot": Rule(lossless=True, proposes="argmax"),
    "rank": Rule(lossless=False),
    "typical": Rule(lossless=False),
}
"""By the name that `speculative.verification` gives them."""


@dataclass(frozen=True)
class Verdict:
    """How many drafted tokens stand, and the target's own token behind them (bonus or correction).

    There is none where all stand and another proposal follows.
    """

    accepted: int
    next_token: int | None

    @property
    def own(self) -> tuple[int, ...]:
        """The target's own token, where there is one."""
        return () if self.next_token is None else (self.next_token,)


def matching(drafted: Sequence[int], target_choices: Sequence[int]) -> Verdict:
    """Accept while the draft equals the target's choice: `greedy` and `coupled`.

    Lossless whatever the draft, since only the target's choices are ever committed: its argmax (Leviathan
    et al. 2023, the temperature-zero case of algorithm 1), or its draw with noise that the draft shares
    (Daliri et al. 2024, "Coupling without Communication and Drafter-Invariant Speculative Decoding").

    Args:
        drafted: the proposed ids, any number.
        target_choices: the target's choice at each drafted position and behind the last one, so one
            id more than `drafted`; as many where another proposal follows.
    """
    accepted = 0
    while accepted < len(drafted) and drafted[accepted] == target_choices[accepted]:
        accepted += 1
    return _chosen(accepted, target_choices)


def rejection(
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
        targets: p, see above.
        coins: one for each drafted token.
        uniform: for the target's own token.
    """
    accepted = 0
    for token, draft, target, coin in zip(drafted, drafts, targets, coins, strict=False):
        if coin * draft.probability(token) >= float(target[token]):
            rest = target - draft.dense(len(target), target.device)
            return Verdict(accepted, _draw_residual(rest, target, uniform))
        accepted += 1
    return _drawn(accepted, targets, uniform)


def one_hot(drafted: Sequence[int], targets: torch.Tensor, coins: Sequence[float], uniform: float) -> Verdict:
    """`rejection` for a draft that proposes one token with certainty: accept x with probability p(x).

    A refused token is drawn anew from the other tokens. No distribution has to be sent. Arguments as for
    `rejection`.
    """
    accepted = 0
    for token, target, coin in zip(drafted, targets, coins, strict=False):
        if coin >= float(target[token]):
            rest = target.clone()
            rest[token] = 0
            return Verdict(accepted, _draw(rest, uniform))
        accepted += 1
    return _drawn(accepted, targets, uniform)


def block(
    drafted: Sequence[int],
    drafts: Sequence[DraftDistribution],
    targets: torch.Tensor,
    coins: Sequence[float],
    uniform: float,
) -> Verdict:
    """Judge all drafted tokens together and keep the longest prefix that any coin accepts.

    Source: Sun et al. 2025, "Block Verification Accelerates Speculative Decoding", algorithm 2. Lossless, and
    never accepts less in expectation than `rejection`. Arguments as for `rejection`.
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
        return _drawn(kept, targets, uniform)
    q = drafts[kept].dense(targets.shape[1], targets.device)
    return Verdict(kept, _draw_residual(kept_ratio * targets[kept] - q, targets[kept], uniform))


def rank(drafted: Sequence[int], scores: torch.Tensor, target_choices: Sequence[int], within: int) -> Verdict:
    """Accept while the token is among the target's `within` most likely. Lossy.

    Args:
        scores: the target's logits or probabilities, shape (drafted + 1, vocabulary).
        target_choices: as for `matching`.
    """
    accepted = 0
    for token, row in zip(drafted, scores, strict=False):
        if int((row > row[token]).sum()) >= within:
            break
        accepted += 1
    return _chosen(accepted, target_choices)


def typical(
    drafted: Sequence[int],
    targets: torch.Tensor,
    target_choices: Sequence[int],
    epsilon: float,
    delta: float,
) -> Verdict:
    """Accept while p(x) > min(ε, δ·exp(-H(p))), H being the entropy in nats. Lossy.

    Source: Cai et al. 2024, "Medusa", section 2.3.1, typical acceptance.

    Args:
        targets: p, see above; at temperature 0 that of temperature 1.
        target_choices: as for `matching`.
    """
    accepted = 0
    for token, row in zip(drafted, targets, strict=False):
        if float(row[token]) <= min(epsilon, delta * math.exp(-entropy(row))):
            break
        accepted += 1
    return _chosen(accepted, target_choices)


def entropy(probabilities: torch.Tensor) -> float:
    """Of a distribution of shape (vocabulary,), in nats."""
    return -float(probabilities.xlogy(probabilities).sum())


def cut(tokens: Sequence[int], budget: int, stop_ids: frozenset[int]) -> tuple[tuple[int, ...], str | None]:
    """What of a verified block is committed: up to its first stop token, and never beyond the budget.

    Returns:
        The committed ids, and `stop`, `length`, or `None` while the text goes on.
    """
    for index, token in enumerate(tokens[:budget]):
        if token in stop_ids:
            return tuple(tokens[: index + 1]), "stop"
    return tuple(tokens[:budget]), "length" if len(tokens) >= budget else None


def _chosen(accepted: int, target_choices: Sequence[int]) -> Verdict:
    return Verdict(accepted, target_choices[accepted] if accepted < len(target_choices) else None)


def _drawn(accepted: int, targets: torch.Tensor, uniform: float) -> Verdict:
    return Verdict(accepted, _draw(targets[accepted], uniform) if accepted < len(targets) else None)


def _draw(weights: torch.Tensor, uniform: float) -> int:
    from specbench.speculation.sampling import draw  # imports torch; the table of rules is read without it

    return draw(weights, uniform)


def _draw_residual(rest: torch.Tensor, target: torch.Tensor, uniform: float) -> int:
    """A token from what the draft left of the target's probability."""
    rest = rest.clamp_min(0)
    # A refusal proves that something is left; only rounding can have taken all of it away.
    return _draw(rest if float(rest.sum()) > 0 else target, uniform)
