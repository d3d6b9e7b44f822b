"""The distillation loss: head, softmax and divergence in one, without keeping the logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ROWS_AT_ONCE = 512


class HeadLoss(torch.autograd.Function):
    """Weighted sum over rows of a divergence, the draft's logits being `hidden @ head.T`.

    `kl` is KL(target ‖ draft) in nats. `tv` is the total variation distance, 1 - Σ min(target, draft): the
    chance that rejection sampling refuses a token (Leviathan et al. 2023, theorem 3.5). `kl+tv` is their sum.

    Gradients are made in the forward pass, a few hundred rows at a time: with 12,288 tokens the logits of a
    batch would take more memory than the model. The target's distribution is its top k, renormalised.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        labels: Tensor,
        probabilities: Tensor,
        weights: Tensor,
        dtype: torch.dtype,
        kind: str,
    ) -> Tensor:
        """Loss as a scalar.

        Args:
            hidden: [n, width], after the final norm.
            head: [vocabulary, width].
            labels: [n, k] draft ids.
            probabilities: [n, k], each row summing to 1 (or 0 where `weights` is 0).
            weights: [n].
            dtype: what the matrix products are computed in.
            kind: as of `Settings.loss`.
        """
        matrix = head.to(dtype)
        hidden_gradient, head_gradient = torch.empty_like(hidden), torch.zeros_like(head)
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        for start in range(0, len(hidden), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            states, target, scale = hidden[part].to(dtype), probabilities[part], weights[part, None]
            draft = torch.softmax((states @ matrix.t()).float(), -1)
            at_labels = draft.gather(1, labels[part])
            share, moved = torch.zeros_like(scale), torch.zeros_like(target)
            if "kl" in kind:  # d KL / d logits = draft - target
                log_draft = at_labels.clamp_min(1e-20).log()
                total += (target * (target.clamp_min(1e-20).log() - log_draft) * scale).sum()
                share, moved = share + scale, moved - target * scale
            if "tv" in kind:  # where the draft is below the target, d TV / d draft = -1, and elsewhere 0
                total += ((1 - torch.minimum(target, at_labels).sum(1, keepdim=True)) * scale).sum()
                below = at_labels * (at_labels < target) * scale
                share, moved = share + below.sum(1, keepdim=True), moved - below
            gradient = draft.mul_(share).scatter_add_(1, labels[part], moved).to(dtype)
            hidden_gradient[part] = (gradient @ matrix).to(hidden.dtype)
            head_gradient += gradient.t() @ states
        ctx.save_for_backward(hidden_gradient, head_gradient)
        return total.float()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what the forward pass has computed."""
        hidden_gradient, head_gradient = ctx.saved_tensors
        return hidden_gradient * upstream, head_gradient * upstream, None, None, None, None, None


def head_loss(
    hidden: Tensor,
    head: Tensor,
    labels: Tensor,
    probabilities: Tensor,
    weights: Tensor,
    dtype: torch.dtype,
    kind: str = "kl",
) -> Tensor:
    """Mean divergence per unit of weight; see `HeadLoss`."""
    weights = weights / weights.sum().clamp_min(1.0)
    return HeadLoss.apply(hidden, head, labels, probabilities, weights, dtype, kind)
