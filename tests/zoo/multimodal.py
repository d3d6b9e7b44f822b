"""Multimodal architectures of the zoo: a text part, which runs, and the smallest other part that they take."""

from collections.abc import Callable, Mapping

from transformers import CONFIG_MAPPING, PretrainedConfig

FIRST_SPECIAL = 300
VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip
QWEN_VISION = {
    "depth": 2, "hidden_size": 32, "out_hidden_size": 64, "num_heads": 2, "intermediate_size": 64,
}  # fmt: skip
SECTIONS = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
IMAGE = {"image_token_id": FIRST_SPECIAL, "video_token_id": FIRST_SPECIAL + 1}
QWEN = {**IMAGE, "vision_start_token_id": FIRST_SPECIAL + 2, "vision_end_token_id": FIRST_SPECIAL + 3}
INDEXED = {"image_token_index": FIRST_SPECIAL}
ENCODER = {"encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64}

MULTIMODAL: dict[str, tuple[str, dict, dict]] = {
    "aya_vision": (
        "cohere2",
        {},
        {"vision_config": {**VISION, "model_type": "siglip_vision_model"}, **INDEXED},
    ),
    "gemma3": (
        "gemma3_text",
        {},
        {
            "vision_config": VISION,
            "mm_tokens_per_image": 4,
            "boi_token_index": 301,
            "eoi_token_index": 302,
            **INDEXED,
        },
    ),
    "glm4v": (
        "glm4v_text",
        {"rope_parameters": {**SECTIONS, "partial_rotary_factor": 1.0}},
        {"vision_config": {**QWEN_VISION, "image_size": 28, "patch_size": 14}},
    ),
    "llava": ("llama", {}, {"vision_config": {**VISION, "model_type": "clip_vision_model"}, **INDEXED}),
    "paligemma": (
        "gemma",
        {},
        {
            "vision_config": {**VISION, "model_type": "siglip_vision_model", "projection_dim": 64},
            "projection_dim": 64,
            **INDEXED,
        },
    ),
    "qwen2_5_vl": (
        "qwen2_5_vl_text",
        {"rope_parameters": SECTIONS},
        {"vision_config": {**QWEN_VISION, "fullatt_block_indexes": [1]}, **QWEN},
    ),
    "qwen2_audio": (
        "qwen2",
        {},
        {"audio_config": {"d_model": 32, **ENCODER}, "audio_token_index": FIRST_SPECIAL},
    ),
    "qwen2_vl": (
        "qwen2_vl_text",
        {"rope_parameters": SECTIONS},
        {
            "vision_config": {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2},
            **QWEN,
        },
    ),
    "qwen3_vl": (
        "qwen3_vl_text",
        {"rope_parameters": {**SECTIONS, "mrope_interleaved": True}},
        {
            "vision_config": {**QWEN_VISION, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16},
            **QWEN,
        },
    ),
    "smolvlm": (
        "llama",
        {},
        {"vision_config": {**VISION, "model_type": "smolvlm_vision"}, "image_token_id": FIRST_SPECIAL},
    ),
    "voxtral": (
        "llama",
        {},
        {
            "audio_config": {
                "hidden_size": 32,
                "intermediate_size": 256,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
            },
            "audio_token_id": FIRST_SPECIAL,
        },
    ),
}
"""By name: the type of the text part, what that needs to be itself, and all else."""


def configured(name: str, small: Callable[[str, Mapping], dict]) -> PretrainedConfig:
    """The configuration of a multimodal architecture, its text part with small sizes."""
    kind, own, others = MULTIMODAL[name]
    text = {**small(kind, own), "model_type": kind}
    ends = {key: text[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = CONFIG_MAPPING[name](text_config=text, **others)
    for key, token in ends.items():
        setattr(config, key, token)
    return config
