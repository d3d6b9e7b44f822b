"""Mixtures of experts in a pass: those that a token chose are multiplied with, and no other is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from specbench.engine.mixtures import mixed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHOSEN = "specbench"
TYPES = (torch.float32, torch.bfloat16, torch.float16)


@contextmanager
def choosing(model: PreTrainedModel) -> Iterator[None]:
    """Have a model's experts multiply by `specbench::experts`, where they can be exchanged."""
    before: Any = getattr(model.config, "_experts_implementation", None)
    own = [part for part in model.modules() if type(part).__name__ == "Llama4TextMoe"]
    if model.dtype not in TYPES or not (own or (before and model._can_set_experts_implementation())):
        yield
        return
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    ALL_EXPERTS_FUNCTIONS.register(CHOSEN, _experts)
    model.set_experts_implementation(CHOSEN)
    for part in own:
        part.forward = partial(_llama4, part)
    try:
        yield
    finally:
        model.set_experts_implementation(before)
        for part in own:
            del part.forward


def _experts(
    module: Any, hidden_states: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Transformers' interface of experts."""

    def product(x: torch.Tensor, chosen: torch.Tensor, name: str) -> torch.Tensor:
        return torch.ops.specbench.experts(x, chosen, getattr(module, name), int(module.is_transposed))

    return mixed(module, hidden_states, chosen, weights, product)


def _llama4(module: Any, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What Llama 4's mixture returns; its own code multiplies every token with all experts, by zero mostly."""
    rows = hidden_states.reshape(-1, module.hidden_dim)
    scores, logits = module.router(rows)
    weights, chosen = scores.topk(module.top_k, -1)
    weighted = (rows.unsqueeze(1) * weights.unsqueeze(-1)).flatten(0, 1)
    product, experts = torch.ops.specbench.experts, module.experts
    gate, up = product(weighted, chosen, experts.gate_up_proj, 1).chunk(2, dim=-1)
    found = product(up * experts.act_fn(gate), chosen, experts.down_proj, 1)
    return found.view(*chosen.shape, -1).sum(1) + module.shared_expert(rows), logits
