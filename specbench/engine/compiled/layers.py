"""What each layer of a model keeps of a token, and why that cannot be kept in tensors of fixed size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import cache_utils
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from transformers import PretrainedConfig, PreTrainedModel

    from specbench.engine.eager import EagerEngine

SharingLayer: Any = getattr(cache_utils, "DummyLayer", DynamicLayer)
"""The layer of a cache that keeps nothing: its model's layer reads what another keeps."""

Shape = tuple[int, int, "torch.dtype"]
"""Heads, size and dtype."""

ONLY_ATTENTION = ", and only keys and values are compiled"
COUNTS_ITS_CACHE = "its attention's temperature counts the tokens of its cache"


class CannotCompileError(Exception):
    """Why a model cannot run compiled, in one line."""


@dataclass(frozen=True)
class Kept:
    """What a layer keeps of a token.

    Args:
        window: how many tokens it sees at most; 0 is all.
    """

    keys: Shape
    values: Shape
    window: int = 0


def allows(model: PreTrainedModel, what: str) -> bool:
    """Whether transformers says so of a model, or of the part that reads text: images may stand in the way."""
    return any(getattr(part, what, False) for part in (model, model.get_decoder()))


def demand_compilable(model: PreTrainedModel, has_our_attention: bool) -> None:
    """Refuse a model whose code cannot be compiled, or whose weights lie in several places.

    Raises:
        CannotCompileError: what stands in the way.
    """
    if not (has_our_attention or allows(model, "_can_compile_fullgraph")):
        raise CannotCompileError(f"transformers cannot compile a {type(model).__name__}")
    if (getattr(model, "tp_size", None) or 1) > 1:
        raise CannotCompileError("its weights are split over ranks")
    if len(set(getattr(model, "hf_device_map", {}).values())) > 1:
        raise CannotCompileError("its weights are spread over devices")


def counts_its_cache(config: PretrainedConfig) -> bool:
    """Whether a layer asks its cache where it is, as in Llama 4, and not only the positions of its tokens."""
    return bool(getattr(config.get_text_config(decoder=True), "attn_temperature_tuning", False))


def is_latent(config: PretrainedConfig) -> bool:
    """Whether the cache keeps what keys and values are made of in each pass, as in DeepSeek."""
    return bool(getattr(config.get_text_config(decoder=True), "kv_lora_rank", None))


def kept_layers(eager: EagerEngine) -> list[Kept | None]:
    """What each layer keeps, `None` where it reads what another keeps, from a pass over one token.

    Raises:
        CannotCompileError: a layer is no attention over the tokens before it.
    """
    session = eager.session()
    session.extend([0])
    found = [_kept(layer) for layer in getattr(session.cache, "layers", [])]
    if not any(found) or session.cached_length != 1:
        raise CannotCompileError("it keeps its state elsewhere than in a cache of keys and values")
    return found


def shapes(layers: Sequence[Kept], capacity: int) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Sizes and types of the tensors for so many tokens: keys of all layers, then their values."""
    parts = [layer.keys for layer in layers] + [layer.values for layer in layers]
    return [((1, heads, capacity, size), dtype) for heads, size, dtype in parts]


def _kept(layer: Any) -> Kept | None:
    if type(layer) is SharingLayer and layer.keys is None:
        return None
    if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
        raise CannotCompileError(_obstacle(layer))
    keys, values = ((part.shape[1], part.shape[3], part.dtype) for part in (layer.keys, layer.values))
    return Kept(keys, values, getattr(layer, "sliding_window", None) or 0)


def _obstacle(layer: Any) -> str:
    kind = type(layer).__name__
    if "Linear" in kind:
        return "it keeps a recurrent state (linear attention, Mamba or convolutions)" + ONLY_ATTENTION
    if "Indexed" in kind:
        return "its sparse attention keeps an index of the text" + ONLY_ATTENTION
    return f"its cache has a layer of kind {kind}" + ONLY_ATTENTION
