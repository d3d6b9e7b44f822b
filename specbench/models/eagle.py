"""A draft of one layer that reads hidden states of its target: EAGLE, in the form of a Llama.

As in EAGLE (Li et al. 2024, "EAGLE: Speculative Sampling Requires Rethinking Feature Uncertainty"), a hidden
state and the next token's embedding are joined by one product before a common layer, so that the layer can
begin as the target's last one. Which hidden states, and that they are fused, is EAGLE-3's (Li et al. 2025,
"EAGLE-3: Scaling up Inference Acceleration of Large Language Models via Training-Time Test").
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PretrainedConfig
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from specbench.models.feature_fed import MODEL_TYPE


class EagleConfig(LlamaConfig):
    """A Llama's configuration, with `feature_layers` and `feature_size` as of `features.Features`."""

    model_type = MODEL_TYPE


def eagle_config(
    target: PretrainedConfig, layers: tuple[int, ...], vocabulary_size: int | None = None
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


class EagleForCausalLM(LlamaForCausalLM):
    """Says what follows the tokens that it reads, each with the hidden state behind the token before it."""

    config_class = EagleConfig

    def __init__(self, config: EagleConfig) -> None:
        super().__init__(config)
        size = config.hidden_size
        self.fuse = nn.Linear(len(config.feature_layers) * config.feature_size, size, bias=False)
        self.hidden_norm = LlamaRMSNorm(size, eps=config.rms_norm_eps)
        self.token_norm = LlamaRMSNorm(size, eps=config.rms_norm_eps)
        self.join = nn.Linear(2 * size, size, bias=False)
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
        hidden = torch.zeros_like(embeddings) if hidden_states is None else hidden_states
        return super().forward(
            inputs_embeds=self.joined(hidden, embeddings),
            position_ids=position_ids,
            logits_to_keep=logits_to_keep,
            **arguments,
        )

    def joined(self, hidden: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """What the layer reads: hidden states behind the token before each, and the tokens' embeddings."""
        return self.join(torch.cat([self.hidden_norm(hidden), self.token_norm(embeddings)], -1))

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
