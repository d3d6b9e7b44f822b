"""Hidden states of a model's layers, caught while it makes a pass."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Found:
    """The hidden states of one pass, by layer, each of shape (1, tokens, hidden size)."""

    def __init__(self) -> None:
        self._by_layer: dict[int, torch.Tensor] = {}

    def take(self, layer: int, states: torch.Tensor) -> None:
        """Note what a layer has put out."""
        self._by_layer[layer] = states

    def of(self, layers: Sequence[int], begin: int, count: int) -> torch.Tensor | None:
        """Those of some tokens of the pass, shape (count, layers, hidden size); `None` if none are wanted."""
        if not layers:
            return None
        return torch.stack([self._by_layer[layer][0, begin : begin + count] for layer in layers], 1)

    def every(self, layers: Sequence[int]) -> torch.Tensor:
        """Those of all tokens of all texts, shape (batch, tokens, layers, hidden size)."""
        return torch.stack([self._by_layer[layer] for layer in layers], 2)


@contextmanager
def collecting(model: PreTrainedModel, layers: Iterable[int]) -> Iterator[Found]:
    """Catch hidden states of the passes that this thread makes inside.

    Args:
        layers: 0 is the embedding, which the first layer reads, and i the output of layer i, counted from 1.

    Raises:
        ValueError: the model has no such layer, or keeps its layers elsewhere than Llama does.
    """
    found, wanted = Found(), sorted(set(layers))
    if not wanted:
        yield found
        return
    parts, thread = _layers(model), threading.get_ident()
    if wanted[0] < 0 or wanted[-1] > len(parts):
        raise ValueError(f"it has {len(parts)} layers")

    def reader(layer: int, reads: bool) -> Any:
        def note(module: torch.nn.Module, inputs: tuple, *outputs: Any) -> None:
            if threading.get_ident() == thread:  # others may make passes of the same model
                states = inputs[0] if reads else outputs[0]
                found.take(layer, states if isinstance(states, torch.Tensor) else states[0])

        return note

    hooks = [
        parts[layer - 1].register_forward_hook(reader(layer, reads=False))
        if layer
        else parts[0].register_forward_pre_hook(reader(layer, reads=True))
        for layer in wanted
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    """The decoder's layers, in their order."""
    layers = getattr(model.get_decoder(), "layers", None)
    if not isinstance(layers, torch.nn.ModuleList):
        raise ValueError(f"a {type(model).__name__} keeps its layers elsewhere than Llama does")
    return layers
