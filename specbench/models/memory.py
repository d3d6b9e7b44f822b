"""How much memory a model will take, known before its weights are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from specbench.models import caches
from specbench.models.architecture import layer_configs, meta_model
from specbench.models.library import cache_argument, quiet_transformers

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

DTYPE_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
PROBED = 2, 4
"""Tokens of two passes that show what a model keeps of each token, and what it keeps at any length."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one model: its weights, and a cache for one sequence of the given length.

    `cache` is `None` where nothing tells what the model keeps of a token.
    """

    weights: int
    cache: int | None

    @property
    def total(self) -> int:
        """Weights and cache together, as far as they are known."""
        return self.weights + (self.cache or 0)


def estimate(
    config: PretrainedConfig,
    dtype: str,
    context_tokens: int,
    quantization: str | None = None,
    drops: bool = False,
) -> MemoryEstimate:
    """What `config` needs in `dtype` for a sequence of `context_tokens`; counts shapes, loads nothing.

    Args:
        quantization: `int8` or `int4` where matrices are held so; while loading, they are in `dtype` too.
        drops: whether layers drop what is older than their window, as the eager engine's do.
    """
    # Shapes are the same in every dtype, and torch knows those of a mixture of experts in bfloat16 alone.
    model = meta_model(config, "bfloat16").eval()
    model.tie_weights()
    weights = sum(_weight_bytes(parameter.shape, dtype, quantization) for parameter in model.parameters())
    cached = _cached_numbers(model, context_tokens, drops)
    return MemoryEstimate(weights, None if cached is None else cached * DTYPE_BYTES[dtype])


def _weight_bytes(shape: Sequence[int], dtype: str, quantization: str | None) -> int:
    numbers = math.prod(shape)
    if quantization is None or len(shape) < 2:
        return numbers * DTYPE_BYTES[dtype]
    if quantization == "int8":
        return numbers + math.prod(shape[:-1]) * 4  # a float32 scale per row
    return numbers // 2 + numbers // 32 * 4  # a float16 scale and offset per 32 weights


def _cached_numbers(model: PreTrainedModel, tokens: int, drops: bool) -> int | None:
    """Numbers in a cache of so many tokens, or `None` where neither model nor configuration tells."""
    for count in (partial(_seen_numbers, drops=drops), _configured_numbers):
        try:
            return count(model, tokens)
        except Exception:  # models and their configurations raise whatever they like
            continue
    return None


def _seen_numbers(model: PreTrainedModel, tokens: int, drops: bool) -> int:
    """Numbers in a cache of so many tokens, seen in passes of the model without its weights.

    Raises:
        Whatever the model raises: where values decide about shapes, there is nothing to see.
    """
    total = 0
    for (few, window), (more, _) in zip(*(_numbers_after(model, count) for count in PROBED), strict=True):
        per_token = (more - few) / (PROBED[1] - PROBED[0])
        kept = min(tokens, window - 1 + caches.SPARE) if window and drops else tokens
        total += int(few + per_token * (kept - PROBED[0]))
    return total


def _numbers_after(model: PreTrainedModel, count: int) -> list[tuple[int, int | None]]:
    """Numbers in each part of a cache after `count` tokens, and the window of that part."""
    import torch

    name, cache = cache_argument(model), caches.growing_cache(model, records=False)
    given = {} if cache is None or name is None else {name: cache}
    token_ids = torch.zeros(1, count, dtype=torch.long, device="meta")
    with torch.inference_mode(), quiet_transformers():
        output = model(input_ids=token_ids, use_cache=True, **given)
    return [
        (sum(tensor.numel() for tensor in caches.tensors(part)), window)
        for part, window in caches.parts(output[name] if cache is None else cache)
    ]


def _configured_numbers(model: PreTrainedModel, tokens: int) -> int:
    """Numbers in a cache of so many tokens by the configuration."""
    layers = layer_configs(model.config)
    return sum(2 * _key_heads(layer) * _head_size(layer) for layer in layers) * tokens


def _key_heads(layer: PretrainedConfig) -> int:
    return getattr(layer, "num_key_value_heads", None) or layer.num_attention_heads


def _head_size(layer: PretrainedConfig) -> int:
    return getattr(layer, "head_dim", None) or layer.hidden_size // layer.num_attention_heads


def free_bytes(device: str) -> int:
    """Memory that a process may still take on `device`: unused device memory, or available RAM and swap."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available + psutil.swap_memory().free
