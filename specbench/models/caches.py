"""The cache that a model decodes with: which kind it takes, and whether tokens can be taken out of it again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache, PreTrainedModel
    from transformers.cache_utils import Cache


def makes_own_cache(model: PreTrainedModel) -> bool:
    """Whether the model makes a cache of a class of its own in its first pass, as MiniMax and xLSTM do."""
    knows = getattr(type(model), "_supports_default_dynamic_cache", None)
    return knows is not None and not knows()


def is_stateful(model: PreTrainedModel) -> bool:
    """Whether transformers marks the model as one whose state cannot go back to an earlier token."""
    return bool(getattr(model, "_is_stateful", False))


def rolls_back(model: PreTrainedModel) -> bool:
    """Whether nothing is known that keeps the model's cache from being rolled back."""
    return not is_stateful(model) and not makes_own_cache(model)


def growing_cache(model: PreTrainedModel, records: bool = True) -> DynamicCache | None:
    """An empty cache for one sequence of a model; `None` for a model that makes its own.

    Args:
        records: whether tokens may be taken out of it again.
    """
    from transformers import DynamicCache

    if makes_own_cache(model):
        return None
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    if records and not is_stateful(model) and hasattr(cache, "activate_past_recording"):
        # Sliding-window and convolutional layers drop the past at once unless told to wait for a crop.
        cache.activate_past_recording()
    return cache


def parts(cache: Cache) -> Iterator[tuple[object, int | None]]:
    """The layers of a cache, each with the window behind which it drops tokens; then all else that it holds."""
    layers = list(getattr(cache, "layers", ()))
    for layer in layers:
        yield layer, getattr(layer, "sliding_window", None)
    yield {name: value for name, value in vars(cache).items() if name != "layers"}, None


def tensors(part: object) -> Iterator[torch.Tensor]:
    """Every tensor with a batch dimension in a part of a cache, however the model keeps it."""
    import torch

    if isinstance(part, torch.Tensor):
        if part.dim() > 1:
            yield part
        return
    if isinstance(part, dict):
        inner = list(part.values())
    elif isinstance(part, (list, tuple)):
        inner = list(part)
    elif hasattr(part, "get_seq_length") or hasattr(part, "record_past"):
        inner = list(vars(part).values())
    else:
        return
    for each in inner:
        yield from tensors(each)
