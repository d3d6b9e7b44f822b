"""The cache that a model decodes with: which kind it takes, and how tokens are taken out of it again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

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


SPARE = 64
"""Tokens that a window keeps beside those that it sees, so that a rollback may go back past the last one."""


def cut(cache: Cache, count: int) -> None:
    """Take the last `count` tokens out of a cache that records its past; with 0 it only drops what is too old.

    Raises:
        ValueError: a window no longer holds what the tokens before them saw.
    """
    from transformers.cache_utils import DynamicSlidingWindowLayer

    layers: list[Any] = cache.layers
    for layer in layers:
        if type(layer) is DynamicSlidingWindowLayer:
            _cut_window(layer, count)
        else:
            # transformers 5 takes the number of tokens to remove, as a negative number; zero lets layers that
            # recorded their past trim it.
            layer.crop(-count)


def _cut_window(layer: Any, count: int) -> None:
    """As transformers' own cut, but that leaves no more than the window sees, and cuts that too."""
    if not layer.is_initialized:
        return
    length, sees = layer.cumulative_length - count, layer.sliding_window - 1
    end = layer.keys.shape[-2] - count
    if end < min(length, sees):
        raise ValueError(
            f"cannot go back to token {length}: a window of {layer.sliding_window} tokens keeps no more"
        )
    begin = max(0, end - sees - SPARE)
    layer.keys, layer.values = layer.keys[:, :, begin:end], layer.values[:, :, begin:end]
    layer.cumulative_length = length


GROWING = ("keys", "values", "indexer_keys", "indexer_position_ids")
"""What a layer of full attention keeps of each token; all else belongs to the state of the text."""


class State:
    """A copy of a text's state at one place: all that its cache holds and that cannot be cut.

    Args:
        model: whose modules hold a part of it, as RecurrentGemma's do; else `None`.
    """

    def __init__(self, cache: object, model: PreTrainedModel | None = None) -> None:
        layers = list(getattr(cache, "layers", ()))
        self._growing = [layer for layer in layers if _grows(layer)]
        self._held: list[tuple[Any, dict]] = [
            (cache, dict(enumerate(cache))) if isinstance(cache, list) else (vars(cache), dict(vars(cache)))
        ]
        for layer in layers:
            left_out = GROWING if _grows(layer) else ()
            self._held.append((vars(layer), {k: v for k, v in vars(layer).items() if k not in left_out}))
        for module in model.modules() if model is not None else ():
            own = {name: held for name, held in vars(module).items() if _is_tensor(held)}
            self._held.append((vars(module), own))
        self._held = [(holder, _copied(held)) for holder, held in self._held]

    @property
    def size(self) -> int:
        """Bytes that were copied."""
        return sum(each.nbytes for _, held in self._held for each in _tensors_in(held))

    def restore(self, count: int) -> None:
        """Put the cache back to this state, which has read `count` tokens since."""
        from transformers.cache_utils import DynamicLayer

        for holder, held in self._held:
            for name, each in _copied(held).items():
                holder[name] = each
        for layer in self._growing:
            # A layer that has a state beside its attention cuts nothing by itself.
            kind = DynamicLayer if hasattr(layer, "recurrent_states") else type(layer)
            kind.crop(layer, -count)


def _grows(layer: object) -> bool:
    """Whether a layer keeps keys and values of every token, so that the last ones can be cut off."""
    from transformers.cache_utils import DynamicLayer

    return isinstance(layer, DynamicLayer) and not layer.is_sliding


def _copied(held: Any) -> Any:
    if _is_tensor(held):
        return held.clone()
    if isinstance(held, dict):
        return {name: _copied(each) for name, each in held.items()}
    return type(held)(map(_copied, held)) if type(held) in (list, tuple) else held


def _tensors_in(held: Any) -> Iterator[torch.Tensor]:
    if _is_tensor(held):
        yield held
    elif isinstance(held, (dict, list, tuple)):
        for each in held.values() if isinstance(held, dict) else held:
            yield from _tensors_in(each)


def _is_tensor(held: object) -> bool:
    import torch

    return isinstance(held, torch.Tensor)
