"""Several steps of a feature-fed draft on its own hidden states, at many places of a text at once.

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


def unrolled(
    model: EagleForCausalLM, fused: Tensor, token_ids: Tensor, rows: Tensor, steps: int
) -> Iterator[Tensor]:
    """What the draft says as its first token, as its second, and so on, wherever a draft may begin.

    Row j of step s follows token `rows[j]`, of a draft that began s places before: it read all tokens up to
    there with the target's hidden states, and s tokens with its own. It means nothing unless the s rows before
    are those of the s tokens before.

    Args:
        fused: the target's hidden states behind the token before each, fused; shape (batch, tokens, size).
        token_ids: the draft's ids, shape (batch, tokens).
        rows: indices into the flattened tokens, ascending; shape (rows,).

    Yields:
        Hidden states behind the last norm, shape (rows, size).
    """
    decoder, layer = model.model, model.model.layers[0]
    attention = layer.self_attn
    (batch, length), device = token_ids.shape, token_ids.device

    def heads(project: torch.nn.Module, normed: Tensor) -> Tensor:
        return project(normed).unflatten(-1, (-1, attention.head_dim)).transpose(-2, -3)

    def rotated(states: Tensor, places: Tensor) -> Tensor:
        return apply_rotary_pos_emb(states, states, *decoder.rotary_emb(fused, places))[0]

    def read(hidden: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        joined = model.joined(hidden, embeddings)
        return joined, layer.input_layernorm(joined)

    embeddings = decoder.embed_tokens(token_ids)
    normed = read(fused, embeddings)[1]
    keys = rotated(heads(attention.k_proj, normed), torch.arange(length, device=device)[None])
    text = keys, heads(attention.v_proj, normed)
    places, counts = rows % length, torch.bincount(rows // length, minlength=batch).tolist()
    hidden, embeddings = (states.flatten(0, 1).index_select(0, rows) for states in (fused, embeddings))
    own: list[tuple[Tensor, Tensor]] = []
    for step in range(steps):
        hidden, normed = read(hidden, embeddings)
        normed = normed[None]
        if step:
            key = rotated(heads(attention.k_proj, normed), places[None])[0]
            own.append((key, heads(attention.v_proj, normed)[0]))
        query = rotated(heads(attention.q_proj, normed), places[None])[0] * attention.scaling
        attended = _attended(query, text, own, places.split(counts))
        hidden = hidden + attention.o_proj(attended.transpose(0, 1).flatten(1))
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        yield decoder.norm(hidden)
        hidden = _later(hidden, 1)


def _attended(
    query: Tensor, text: tuple[Tensor, Tensor], own: Sequence[tuple[Tensor, Tensor]], places: Sequence[Tensor]
) -> Tensor:
    """Attention of the newest step: over the target's part of the texts, and over each own step once.

    Args:
        query: scaled, shape (heads, rows, head size).
        text: keys and values of shape (batch, key heads, tokens, head size).
        own: of each step before and this one, keys and values of shape (key heads, rows, head size).
        places: of each text's rows.
    """
    groups = query.unflatten(0, (text[0].shape[1], -1))  # heads that share a key head
    single = [
        (groups * _later(key, len(own) - at)[:, None]).sum(-1, keepdim=True)
        for at, (key, _) in enumerate(own, start=1)
    ]
    found, shares = [], []
    for key, value, at, part, *beside in zip(
        *text, places, *(each.split([len(at) for at in places], 2) for each in (groups, *single)), strict=True
    ):
        length = int(at[-1]) + 1 if len(at) else 0
        scores = (part.flatten(1, 2) @ key[:, :length].transpose(1, 2)).unflatten(1, part.shape[1:3])
        hides = torch.arange(length, device=at.device) > at[:, None] - len(own)
        scores = torch.cat([scores.masked_fill(hides, -torch.inf), *beside], -1)
        share = scores.softmax(-1, dtype=torch.float32).to(value)
        found.append((share[..., :length].flatten(1, 2) @ value[:, :length]).view_as(part))
        shares.append(share[..., length:])
    whole, share = torch.cat(found, 2), torch.cat(shares, 2)
    for at, (_, value) in enumerate(own, start=1):
        whole = whole + share[..., at - 1, None] * _later(value, len(own) - at)[:, None]
    return whole.flatten(0, 1)


def _later(states: Tensor, places: int) -> Tensor:
    """The same, so many rows later, which is the last dimension but one; zeros come first."""
    return pad(states, (0, 0, places, 0))[..., : states.shape[-2], :] if places else states
