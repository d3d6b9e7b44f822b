"""A draft of one layer that reads hidden states of its target: EAGLE-3's, in the form of a Llama.

Source: Li et al. 2024, "EAGLE: Speculative Sampling Requires Rethinking Feature Uncertainty", and Li et al.
2025, "EAGLE-3: Scaling up Inference Acceleration of Large Language Models via Training-Time Test".
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, LlamaModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

from specbench.models.feature_fed import MODEL_TYPE


class EagleConfig(LlamaConfig):
    """A Llama's configuration, with `feature_layers` and `feature_size` as of `features.Features`."""

    model_type = MODEL_TYPE


def eagle_config(
    target: LlamaConfig, layers: tuple[int, ...], vocabulary_size: int | None = None
) -> EagleConfig:
    """A draft of the target's own sizes.

    Args:
        layers: of the target that it reads, as of `Features`.
        vocabulary_size: of the draft; the target's when absent.
    """
    fields: dict[str, Any] = {
        name: getattr(target, name)
        for name in (
            *("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "hidden_act"),
            *("max_position_embeddings", "initializer_range", "rms_norm_eps", "rope_parameters", "head_dim"),
        )
        if getattr(target, name, None) is not None
    }
    fields |= {"feature_layers": list(layers), "feature_size": target.hidden_size}
    return EagleConfig(
        **fields,
        vocab_size=vocabulary_size or target.vocab_size,
        num_hidden_layers=1,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )


class EagleLayer(LlamaDecoderLayer):
    """A layer whose attention reads the embedding of each token beside its hidden state, twice as wide."""

    def __init__(self, config: EagleConfig, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        self.hidden_norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        attention: Any = self.self_attn
        for name in ("q_proj", "k_proj", "v_proj"):
            narrow = getattr(attention, name)
            wide = nn.Linear(2 * config.hidden_size, narrow.out_features, bias=narrow.bias is not None)
            setattr(attention, name, wide)

    def forward(self, hidden_states: torch.Tensor, embeddings: torch.Tensor, **arguments: Any) -> torch.Tensor:
        """The hidden states behind the tokens, before the last norm."""
        read = torch.cat([self.input_layernorm(embeddings), self.hidden_norm(hidden_states)], -1)
        attended, _ = self.self_attn(hidden_states=read, **arguments)
        hidden_states = hidden_states + attended
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))


class EagleModel(LlamaModel):
    """The decoder: one layer."""

    config_class = EagleConfig

    def __init__(self, config: EagleConfig) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList([EagleLayer(config, 0)])
        self.post_init()


class EagleForCausalLM(LlamaForCausalLM):
    """Says what follows the tokens that it reads, each with the hidden state behind the token before it."""

    config_class = EagleConfig

    def __init__(self, config: EagleConfig) -> None:
        super().__init__(config)
        self.model = EagleModel(config)
        self.fuse = nn.Linear(len(config.feature_layers) * config.feature_size, config.hidden_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        hidden_states: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **arguments: Any,
    ) -> Any:
        """One pass.

        Args:
            input_ids: shape (batch, tokens).
            hidden_states: behind the token before each: of the target, fused, or the draft's own; of shape
                (batch, tokens, hidden size). Zeros where there are none.
            arguments: as of a Llama.
        """
        embeddings = self.model.embed_tokens(input_ids)
        return super().forward(
            inputs_embeds=torch.zeros_like(embeddings) if hidden_states is None else hidden_states,
            embeddings=embeddings,
            position_ids=position_ids,
            logits_to_keep=logits_to_keep,
            **arguments,
        )

    def fused(self, features: torch.Tensor) -> torch.Tensor:
        """What the draft reads of the target's hidden states.

        Args:
            features: shape (tokens, layers, target's hidden size), float32.

        Returns:
            Shape (tokens, hidden size).
        """
        return self.fuse(features.flatten(1).to(self.model.norm.weight))  # never quantised


AutoConfig.register(MODEL_TYPE, EagleConfig)
AutoModelForCausalLM.register(EagleConfig, EagleForCausalLM)
