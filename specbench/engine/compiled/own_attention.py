"""Attention in code of an architecture's own, which ours replaces while a pass is traced: Bloom, MPT, Falcon.

All but Falcon with rotary positions add ALiBi. Bloom and MPT multiply a head's slope by the position of a key,
from the text's beginning or from its end, which is the same to a softmax. Falcon computes that product in
bfloat16, whatever its dtype, and scales it like a score. Bloom in bfloat16 or float16 rounds it too, and keeps
its own code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AttentionMaskInterface

from specbench.engine.compiled.attention import Alibi, Asked, Attend
from specbench.engine.quantized import is_linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OWN = "specbench_own"
WIDE = (torch.float32, torch.float64)


@dataclass(frozen=True)
class OwnAttention:
    """How the attention of an architecture is replaced.

    Args:
        part: the class of its attention layers.
        forward: what they do instead, given a layer, `attend`, `alibi`, and their own arguments.
        alibi: `None` where positions are rotary.
    """

    part: str
    forward: Callable[..., tuple[torch.Tensor, None]]
    alibi: Alibi | None

    @contextmanager
    def attending(self, model: PreTrainedModel, attend: Attend) -> Iterator[None]:
        """Have a model attend by `attend`; its layers get no masks, and linear ones of its own are plain."""
        forwards: dict[nn.Module, Callable] = {}
        for part in model.modules():
            if type(part).__name__ == self.part:
                forwards[part] = partial(self.forward, part, attend, self.alibi)
            elif isinstance(part, nn.Linear) and is_linear(type(part)):
                forwards[part] = partial(nn.Linear.forward, part)
        adding: list[Any] = [part for part in model.modules() if getattr(part, "use_alibi", False)]
        before = model.config._attn_implementation
        model.config._attn_implementation = OWN
        for part in adding:  # made for one length of the text
            part.use_alibi = False
        for part, forward in forwards.items():
            part.forward = forward
        try:
            yield
        finally:
            model.config._attn_implementation = before
            for part in adding:
                part.use_alibi = True
            for part in forwards:
                del part.forward


def of(model: PreTrainedModel) -> OwnAttention | None:
    """How a model's own attention is replaced; `None` where it cannot be, or need not be."""
    known = KNOWN.get(getattr(model.config, "model_type", ""))
    return known(model) if known else None


def _bloom(model: Any) -> OwnAttention | None:
    config = model.config
    if model.dtype not in WIDE or (config.slow_but_exact and config.pretraining_tp > 1):
        return None
    alibi = model.transformer.build_alibi_tensor(
        torch.ones(1, 2, dtype=torch.long), config.n_head, torch.float32
    )
    return OwnAttention("BloomAttention", _attend_bloom, Alibi(_slopes(alibi)))


def _mpt(model: Any) -> OwnAttention:
    alibi = model.transformer.build_mpt_alibi_tensor(model.config.n_heads, 2)
    return OwnAttention("MptAttention", _attend_mpt, Alibi(_slopes(alibi)))


def _falcon(model: Any) -> OwnAttention:
    from transformers.models.falcon.modeling_falcon import build_alibi_tensor

    if not model.config.alibi:
        return OwnAttention("FalconAttention", _attend_falcon, None)
    alibi = build_alibi_tensor(
        torch.ones(1, 2, dtype=torch.long), model.config.num_attention_heads, torch.float32
    )
    return OwnAttention("FalconAttention", _attend_falcon, Alibi(_slopes(alibi), is_rounded=True))


def _slopes(alibi: torch.Tensor) -> torch.Tensor:
    """The slope of each head, from what it adds for two keys side by side, shape (heads, 1, 2)."""
    return (alibi[:, 0, 1] - alibi[:, 0, 0]).float()


def _attend_bloom(
    layer: Any,
    attend: Attend,
    alibi: Alibi,
    /,
    hidden_states: torch.Tensor,
    residual: torch.Tensor,
    *,
    layer_past: Any,
    **masks: object,
) -> tuple[torch.Tensor, None]:
    query, *kept = layer._reshape(layer.query_key_value(hidden_states))
    states = query, *layer_past.update(*kept, layer.layer_idx)
    found = attend(states, Asked(layer.inv_norm_factor, alibi=alibi))
    return residual + layer.dense(found.flatten(2)), None


def _attend_mpt(
    layer: Any, attend: Attend, alibi: Alibi, /, hidden_states: torch.Tensor, *, cache: Any, **masks: object
) -> tuple[torch.Tensor, None]:
    mixed = layer.Wqkv(hidden_states)
    if layer.clip_qkv:
        mixed = mixed.clamp(min=-layer.clip_qkv, max=layer.clip_qkv)
    heads = mixed.unflatten(-1, (3, layer.n_heads, layer.head_dim))
    query, *kept = (heads[:, :, part].transpose(1, 2) for part in range(3))
    states = query, *cache.update(*kept, layer.layer_idx)
    return layer.out_proj(attend(states, Asked(layer.softmax_scale, alibi=alibi)).flatten(2)), None


def _attend_falcon(
    layer: Any,
    attend: Attend,
    alibi: Alibi | None,
    /,
    hidden_states: torch.Tensor,
    *,
    layer_past: Any,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    **masks: object,
) -> tuple[torch.Tensor, None]:
    from transformers.models.falcon.modeling_falcon import apply_rotary_pos_emb

    mixed = layer._split_heads(layer.query_key_value(hidden_states))
    query, key, value = (part.transpose(1, 2) for part in mixed)
    if alibi is None:
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
    states = query, *layer_past.update(key, value, layer.layer_idx)
    return layer.dense(attend(states, Asked(layer.inv_norm_factor, alibi=alibi)).flatten(2)), None


KNOWN: dict[str, Callable[[Any], OwnAttention | None]] = {"bloom": _bloom, "falcon": _falcon, "mpt": _mpt}
"""By model type."""


def _no_mask(**asked: object) -> torch.Tensor:
    """Transformers' interface of masks: one that nobody reads, for MPT converts what it is given."""
    return torch.zeros(())


AttentionMaskInterface.register(OWN, _no_mask)
