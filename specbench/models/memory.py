"""How much memory a model will take, known before its weights are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

DTYPE_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one model: its weights, and a cache for one sequence of the given length."""

    weights: int
    cache: int

    @property
    def total(self) -> int:
        """Weights and cache together."""
        return self.weights + self.cache


def estimate(
    config: PretrainedConfig, dtype: str, context_tokens: int, quantization: str | None = None
) -> MemoryEstimate:
    """What `config` needs in `dtype` for a sequence of `context_tokens`; counts shapes, loads nothing.

    Args:
        quantization: `int8` or `int4` where matrices are held so; while loading, they are in `dtype` too.
    """
    from specbench.models.loading import meta_model

    model = meta_model(config, dtype)
    model.tie_weights()
    weights = sum(_weight_bytes(parameter.shape, dtype, quantization) for parameter in model.parameters())
    text = config.get_text_config()
    return MemoryEstimate(weights=weights, cache=_cached_numbers(text) * context_tokens * DTYPE_BYTES[dtype])


def _weight_bytes(shape: Sequence[int], dtype: str, quantization: str | None) -> int:
    numbers = math.prod(shape)
    if quantization is None or len(shape) < 2:
        return numbers * DTYPE_BYTES[dtype]
    if quantization == "int8":
        return numbers + shape[0] * 4  # a float32 scale per row
    return numbers // 2 + numbers // 32 * 4  # a float16 scale and offset per 32 weights


def _cached_numbers(text: PretrainedConfig) -> int:
    """Numbers that one token adds to the cache; none where there is no attention."""
    heads = getattr(text, "num_attention_heads", None)
    if heads is None:
        return 0
    head_size = getattr(text, "head_dim", None) or text.hidden_size // heads
    return 2 * text.num_hidden_layers * (getattr(text, "num_key_value_heads", None) or heads) * head_size


def free_bytes(device: str) -> int:
    """Memory that a process may still take on `device`: unused device memory, or available RAM and swap."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available + psutil.swap_memory().free
