"""Tiny random models of any architecture: its own configuration with small sizes, and weights that matter.

Weights are wider than an architecture's own initialisation would make them: texts then depend on what was read,
and a cache that is wrong shows.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    AutoModelForSeq2SeqLM,
    PretrainedConfig,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
from zoo import multimodal
from zoo.architectures import FIELDS, model_type
from zoo.multimodal import MULTIMODAL

from specbench.testing import tiny_tokenizer

VOCABULARY = 320
MOST_PARAMETERS = 8_000_000
SPREAD = 0.2
DRAFT_NOISE = 0.06
SIZES = {
    VOCABULARY: "vocab_size vocab_size_per_layer_input",
    64: "hidden_size d_model n_embd n_embed embedding_size word_embed_proj_dim lru_width index_topk",
    128: """intermediate_size ffn_dim n_inner ffn_hidden_size intermediate_size_mlp dim_ff dff mamba_d_ssm
        mlp_ffn_hidden_size""",
    32: """moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size moe_ffn_hidden_size
        expert_ffn_hidden_size moe_shared_expert_intermediate_size q_lora_rank mamba_chunk_size
        attention_window_size""",
    16: """head_dim kv_channels attention_head_dim kv_lora_rank qk_nope_head_dim v_head_dim laurel_rank
        mamba_d_state hidden_size_per_layer_input linear_key_head_dim linear_value_head_dim mamba_d_head
        index_head_dim""",
    24: "qk_head_dim",
    8: "qk_rope_head_dim mamba_n_heads mamba_dt_rank",
    4: """num_hidden_layers n_layer num_layers n_layers decoder_layers num_attention_heads n_head n_heads
        num_heads decoder_attention_heads attention_heads num_experts num_local_experts n_routed_experts
        moe_num_experts num_routed_experts linear_num_value_heads mamba_d_conv""",
    2: """num_key_value_heads num_kv_heads num_experts_per_tok num_experts_per_token moe_k moe_topk
        top_k_experts linear_num_key_heads mamba_expand index_n_heads""",
    1: "n_shared_experts num_shared_experts moe_num_shared_experts mamba_n_groups",
    2048: "max_position_embeddings n_positions max_seq_len n_ctx seq_length",
    SPREAD: "initializer_range init_std",
}
SMALL = {name: size for size, names in SIZES.items() for name in names.split()}


def configured(name: str) -> PretrainedConfig:
    """The configuration of an architecture."""
    if name in MULTIMODAL:
        return multimodal.configured(name, small_fields)
    return CONFIG_MAPPING[model_type(name)](**small_fields(model_type(name), FIELDS[name]))


def small_fields(kind: str, own: Mapping[str, object]) -> dict[str, object]:
    """Small sizes wherever a model type has a setting of that name, and what makes it itself."""
    known = CONFIG_MAPPING[kind]().to_dict()
    fields = {key: size for key, size in SMALL.items() if not isinstance(known.get(key, []), (list, dict))}
    if known.get("num_key_value_heads") is None:  # as many as there are heads
        fields.pop("num_key_value_heads", None)
    fields |= {key: 0.0 for key in known if key.endswith(("dropout", "_pdrop")) and known[key]}
    fields |= {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    if known.get("sliding_window"):
        fields["sliding_window"] = 32
    if "qk_rope_head_dim" in fields:  # keys are made from what all heads share
        fields |= {key: size for key, size in {"head_dim": 8, "num_key_value_heads": 4}.items() if key in known}
    if kind.startswith("gemma4"):  # experts are a choice there, and off
        fields = {key: size for key, size in fields.items() if "expert" not in key and "moe" not in key}
    return {**fields, **own}


def build(name: str, folder: Path) -> None:
    """Write `target` and `draft` of an architecture, with tokenizers; the draft is the target, disturbed."""
    config = configured(name)
    auto = AutoModelForCausalLM if config.model_type in CAUSAL else AutoModelForSeq2SeqLM
    if name in MULTIMODAL:
        auto = AutoModelForMultimodalLM
    torch.manual_seed(1)
    model = auto.from_config(config, dtype=torch.float32)
    count = sum(weights.numel() for weights in model.parameters())
    assert count <= MOST_PARAMETERS, f"{name} has {count} parameters: a setting of its size is not known"
    _widen(model)
    for part in ("target", "draft"):
        model.save_pretrained(folder / part)
        tiny_tokenizer(VOCABULARY).save_pretrained(folder / part)
        _disturb(model)


@torch.no_grad()
def _widen(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    for name, weights in model.named_parameters():
        is_zero_scale = "norm" in name and not weights.any()  # which is added to one
        if _is_product(name, weights) or is_zero_scale:
            weights.normal_(0, SPREAD, generator=generator)
    if "gemma" in model.config.model_type:  # it multiplies its embeddings by the root of their width
        model.get_input_embeddings().weight.mul_(0.15)


def _is_product(name: str, weights: torch.Tensor) -> bool:
    """Whether weights are a matrix that something is multiplied with; others would make states explode."""
    own = name.rpartition(".")[2]
    return weights.ndim > 1 and "conv" not in name and not any(part in own for part in ("A_log", "D", "dt_"))


@torch.no_grad()
def _disturb(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(2)
    for weights in model.parameters():
        if weights.ndim > 1:
            noise = torch.randn(weights.shape, generator=generator)
            weights += noise * weights.std().nan_to_num() * DRAFT_NOISE
