"""The architectures of the zoo: what each needs beside small sizes to be built, and to be itself.

A name is a model type of transformers, or stands for a variant of one, which `VARIANTS` names.
"""

from zoo.multimodal import MULTIMODAL

WINDOW = 32
ALTERNATING = ["sliding_attention", "full_attention"] * 2
HALF_LINEAR = ["linear_attention", "full_attention"] * 2
HALF_CONV = ["conv", "full_attention"] * 2
GROUPS = {"n_group": 1, "topk_group": 1}
ROUTED = {"first_k_dense_replace": 1, **GROUPS}
ONE_WINDOW = {"sliding_window": WINDOW}
GEMMA = {**ONE_WINDOW, "layer_types": ALTERNATING, "query_pre_attn_scalar": 16}
GEMMA_3N = {**ONE_WINDOW, "layer_types": ALTERNATING, "intermediate_size": [128] * 4}
GEMMA_4 = {**ONE_WINDOW, "layer_types": ALTERNATING, "global_head_dim": 32}
BANDS = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
SHORT_ROPE = {"rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 256}

PLAIN = (
    "afmoe", "apertus", "arcee", "biogpt", "bitnet", "bloom", "cpmant", "diffllama", "doge", "ernie4_5",
    "flex_olmo", "gemma", "glm", "glm4", "gpt2", "gpt_bigcode", "granitemoe", "helium", "hunyuan_v1_dense",
    "hunyuan_v1_moe", "jais2", "llama", "mellum", "minicpm3", "minimax_m2", "mixtral", "nanochat", "olmo",
    "olmo2", "olmo3", "olmoe", "openai-gpt", "opt", "persimmon", "phimoe", "qwen2", "qwen2_moe", "qwen3",
    "qwen3_moe", "seed_oss", "solar_open", "xlnet",
)  # fmt: skip

VARIANTS = {
    "deepseek_v32_indexed": "deepseek_v32",
    "falcon_alibi": "falcon",
    "falcon_new": "falcon",
    "gemma3n_shared": "gemma3n_text",
    "gemma4_shared": "gemma4_text",
    "gemma4_uniform": "gemma4_text",
    "llama_dynamic": "llama",
    "llama_llama3": "llama",
    "llama_yarn": "llama",
    "mistral_sliding": "mistral",
    "opt_projected": "opt",
    "phi3_longrope": "phi3",
    "phi3_sliding": "phi3",
    "qwen2_sliding": "qwen2",
    "starcoder2_sliding": "starcoder2",
}

FIELDS: dict[str, dict] = {
    **{name: {} for name in PLAIN},
    "axk1": GROUPS,
    "axk2": {"index_n_heads": 16},
    "bailing_hybrid": {**GROUPS, "layer_types": HALF_LINEAR},
    "bamba": {"attn_layer_indices": [1, 3]},
    "bert": {"is_decoder": True},
    "bart": {"encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "encoder_attention_heads": 4},
    "codegen": {"rotary_dim": 8},
    "cohere": {"logit_scale": 1.0},
    "cohere2": {**ONE_WINDOW, "layer_types": ALTERNATING, "logit_scale": 1.0},
    "ctrl": {},
    "cwm": {"bos_token_id": 2},
    "deepseek_v2": ROUTED,
    "deepseek_v3": ROUTED,
    "deepseek_v32_indexed": {**GROUPS, "index_n_heads": 16},
    "deepseek_v4": {},
    "dots1": {**ROUTED, "num_key_value_heads": 2},
    "ernie4_5_moe": {"moe_layer_start_index": 1, "moe_layer_end_index": -1},
    "exaone4": {},
    "falcon": {"new_decoder_architecture": False, "multi_query": True},
    "falcon_alibi": {
        "alibi": True, "new_decoder_architecture": False, "multi_query": False, "num_kv_heads": 4,
    },
    "falcon_h1": {"lm_head_multiplier": 1.0},
    "falcon_mamba": {"state_size": 8},
    "falcon_new": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "gemma2": GEMMA,
    "gemma3_text": GEMMA,
    "gemma3n_shared": {
        **GEMMA_3N, "num_kv_shared_layers": 2, "activation_sparsity_pattern": [0.5, 0.5, 0.0, 0.0],
    },
    "gemma3n_text": {**GEMMA_3N, "num_kv_shared_layers": 0, "activation_sparsity_pattern": [0.0] * 4},
    "gemma4_shared": {**GEMMA_4, "num_kv_shared_layers": 2},
    "gemma4_text": GEMMA_4,
    "gemma4_uniform": {**GEMMA_4, "global_head_dim": 16},
    "glm4_moe": ROUTED,
    "glm_moe_dsa": {"index_n_heads": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "window_size": WINDOW},
    "gpt_neox": {"rotary_pct": 0.5},
    "gpt_oss": {**ONE_WINDOW, "layer_types": ALTERNATING},
    "gptj": {"rotary_dim": 8},
    "granite": {
        "embedding_multiplier": 1.0, "logits_scaling": 1.0, "residual_multiplier": 1.0,
        "attention_multiplier": 0.25,
    },
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "hy_v4": {"index_n_heads": 16},
    "jamba": {
        "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
        "mamba_d_state": 8,
    },
    "kimi_linear": {"linear_head_dim": 16, "linear_num_heads": 4, "layer_types": HALF_LINEAR},
    "lara_mini": {"layer_types": HALF_LINEAR},
    "lfm2": {"layer_types": HALF_CONV, "block_auto_adjust_ff_dim": False},
    "lfm2_moe": {"layer_types": HALF_CONV, "num_dense_layers": 1},
    "llama4_text": {
        "attention_chunk_size": 64, "moe_layers": [1, 3], "interleave_moe_layer_step": 2,
        "no_rope_layers": [1, 1, 1, 0], "layer_types": ["chunked_attention"] * 3 + ["full_attention"],
    },
    "llama_dynamic": {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}},
    "llama_llama3": {"rope_parameters": {"rope_type": "llama3", **BANDS, **SHORT_ROPE}},
    "llama_yarn": {"rope_parameters": {"rope_type": "yarn", **SHORT_ROPE}},
    "longcat_flash": {"num_layers": 2},
    "mamba": {"state_size": 8},
    "mamba2": {"num_heads": 8, "head_dim": 16, "state_size": 16, "n_groups": 1, "chunk_size": 32},
    "mimo_v2_flash": ONE_WINDOW,
    "minimax": {"layer_types": HALF_LINEAR, "block_size": 32},
    "ministral": {**ONE_WINDOW, "layer_types": ALTERNATING},
    "mistral": {"sliding_window": None},
    "mistral_sliding": ONE_WINDOW,
    "modernbert-decoder": {"bos_token_id": 2, "cls_token_id": 2, "sep_token_id": 1},
    "mpt": {"expansion_ratio": 2},
    "nemotron": {"partial_rotary_factor": 0.5, "num_key_value_heads": 2},
    "nemotron_h": {},
    "olmo_hybrid": {},
    "opt_projected": {"word_embed_proj_dim": 32, "do_layer_norm_before": False},
    "phi": {"partial_rotary_factor": 0.5, "num_key_value_heads": 4},
    "phi3": {"sliding_window": None},
    "phi3_longrope": {
        "original_max_position_embeddings": 1024,
        "rope_parameters": {
            "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 1.0, "factor": 2.0,
            "short_factor": [1.0] * 8, "long_factor": [4.0] * 8, "original_max_position_embeddings": 1024,
        },
    },
    "phi3_sliding": ONE_WINDOW,
    "qwen2_sliding": {**ONE_WINDOW, "use_sliding_window": True, "max_window_layers": 2},
    "qwen3_5_moe_text": {"layer_types": HALF_LINEAR},
    "qwen3_5_text": {"layer_types": HALF_LINEAR},
    "qwen3_next": {"layer_types": HALF_LINEAR, "partial_rotary_factor": 0.5, "decoder_sparse_step": 1},
    "recurrent_gemma": {
        "block_types": ["recurrent", "attention"], "attention_window_size": WINDOW, "num_key_value_heads": 1,
    },
    "roberta": {"is_decoder": True, "max_position_embeddings": 2050},
    "rwkv": {"attention_hidden_size": 64, "context_length": 2048},
    "smollm3": {"no_rope_layers": [1, 1, 1, 0], "layer_types": ["full_attention"] * 4},
    "stablelm": {"partial_rotary_factor": 0.5},
    "starcoder2": {"sliding_window": None},
    "starcoder2_sliding": ONE_WINDOW,
    "t5": {},
    "xglm": {"attention_heads": 4, "num_layers": 4},
    "xlstm": {"hidden_size": 128, "num_blocks": 2, "num_hidden_layers": 2},
    "zamba": {
        "layers_block_type": ["mamba", "hybrid"] * 2, "attention_hidden_size": 128, "attention_head_dim": 32,
        "n_mamba_heads": 2, "num_key_value_heads": 4,
    },
    "zamba2": {
        "layers_block_type": ["linear_attention", "hybrid"] * 2, "chunk_size": 32, "adapter_rank": 8,
        "n_mamba_heads": 8, "num_key_value_heads": 4,
    },
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip

NAMES = sorted({**FIELDS, **MULTIMODAL})


def model_type(name: str) -> str:
    """What transformers calls the architecture of a name."""
    return VARIANTS.get(name, name)
