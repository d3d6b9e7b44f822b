"""Mixtures of experts: what the experts that a token chose make of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Product = Callable[[torch.Tensor, torch.Tensor, str], torch.Tensor]
"""`product(x, chosen, name)`: rows of x times the chosen matrices of a name, a row for each choice."""
MATRICES = ("gate_up_proj", "up_proj", "down_proj")


def is_mixture(module: nn.Module) -> bool:
    """Whether a module holds experts side by side, as transformers' interface of experts knows them."""
    return all(hasattr(module, name) for name in ("has_gate", "has_bias", "is_transposed"))


def is_router(module: nn.Module) -> bool:
    """Whether a module chooses experts by a matrix of its own."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.dim() == 2 and "Router" in type(module).__name__


def matrices(experts: Any) -> dict[str, torch.Tensor]:
    """The matrices of experts by their names, shape (experts, outputs, inputs)."""
    found = {
        name: weight.detach() for name, weight in experts.named_parameters(recurse=False) if name in MATRICES
    }
    return {name: weight.transpose(1, 2) if experts.is_transposed else weight for name, weight in found.items()}


def mixed(
    experts: Any, hidden_states: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor, product: Product
) -> torch.Tensor:
    """What those of `chosen` make of each token, weighted and added up.

    Args:
        experts: their module, for its gate, biases and norm.
        hidden_states: shape (tokens, hidden size); `chosen` and `weights` have shape (tokens, choices).
    """

    def multiplied(x: torch.Tensor, name: str) -> torch.Tensor:
        found = product(x, chosen, name)
        return found + getattr(experts, f"{name}_bias")[chosen.reshape(-1)] if experts.has_bias else found

    inner = multiplied(hidden_states, "gate_up_proj" if experts.has_gate else "up_proj")
    inner = experts._apply_gate(inner) if experts.has_gate else experts.act_fn(inner)
    found = multiplied(inner, "down_proj")
    if getattr(experts, "has_post_expert_norm", False):
        found = experts.post_expert_norm(found)
    weighted = found * weights.reshape(-1, 1)
    return weighted.view(*chosen.shape, -1).sum(1).to(hidden_states.dtype)
