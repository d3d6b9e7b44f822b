"""Several steps of a feature-fed draft on its own hidden states, at every place of a text at once.

Source: Li et al. 2025, "EAGLE-3: Scaling up Inference Acceleration of Large Language Models via Training-Time
Test": a draft learns from what it will read when it drafts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from specbench.models.eagle import EagleForCausalLM


def unrolled(model: EagleForCausalLM, fused: Tensor, token_ids: Tensor, steps: int) -> Iterator[Tensor]:
    """What the draft says as its first token, as its second, and so on, wherever a draft may begin.

    Row j of step s follows token j, of a draft that began s places before: it read all tokens up to there with
    the target's hidden states, and s tokens with its own. Rows below s mean nothing.

    Args:
        fused: the target's hidden states behind the token before each, fused; shape (batch, tokens, size).
        token_ids: the draft's ids, shape (batch, tokens).

    Yields:
        Hidden states behind the last norm, shape (batch, tokens, size).
    """
    decoder, layer = model.model, model.model.layers[0]
    attention = layer.self_attn
    embeddings = layer.input_layernorm(decoder.embed_tokens(token_ids))
    positions = torch.arange(token_ids.shape[1], device=token_ids.device)[None]
    rotation = decoder.rotary_emb(fused, positions)
    hidden, keys, values = fused, [], []
    for _ in range(steps):
        read = torch.cat([embeddings, layer.hidden_norm(hidden)], -1)
        query, key, value = (
            project(read).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        query, key = apply_rotary_pos_emb(query, key, *rotation)
        groups = attention.num_key_value_groups
        keys.append(key.repeat_interleave(groups, 1))
        values.append(value.repeat_interleave(groups, 1))
        attended = _attended(query * attention.scaling, keys, values)
        hidden = hidden + attention.o_proj(attended.transpose(1, 2).flatten(2))
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        yield decoder.norm(hidden)
        hidden = _later(hidden, 1)


def _attended(query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Attention of the newest step: over the target's part of the text, and over each own step once.

    Args:
        query: scaled, shape (batch, heads, tokens, head size); keys and values of all steps likewise.
    """
    step, length = len(keys) - 1, query.shape[2]
    sees = torch.ones(length, length, dtype=torch.bool, device=query.device).tril(-step)
    scores = (query @ keys[0].transpose(2, 3)).masked_fill(~sees, -torch.inf)
    own = [_later(key, step - at) for at, key in enumerate(keys[1:], start=1)]
    single = [(query * key).sum(-1, keepdim=True) for key in own]
    shares = torch.cat([scores, *single], -1).float().softmax(-1).to(values[0])
    found = shares[..., :length] @ values[0]
    for at, value in enumerate(values[1:], start=1):
        found = found + shares[..., length + at - 1, None] * _later(value, step - at)
    return found


def _later(states: Tensor, places: int) -> Tensor:
    """The same, so many places later in the text, which is the last dimension but one; zeros come first."""
    return pad(states, (0, 0, places, 0))[..., : states.shape[-2], :] if places else states
