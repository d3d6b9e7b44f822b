"""One pass of a model over a static cache, as a module that can be exported or captured."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer, StaticLayer

from specbench.engine.hidden_states import collecting
from specbench.models.library import cache_argument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from transformers import PreTrainedModel

    from specbench.engine.eager import EagerEngine

ATTENTION = "specbench"
# What some architectures hand to their attention, and `specbench::attend` does not know.
UNKNOWN_TO_ATTEND = ("softcap", "s_aux", "position_bias", "sliding_window", "head_mask")


class SlotLayer(StaticLayer):
    """One layer of a cache slot: tensors of fixed size, written at the positions of this pass.

    Args:
        keys: shape (1, key heads, capacity, head size); `values` likewise.
        start: tokens before this pass, a tensor without dimensions.
        places: where those of this pass are written, shape (width,).
    """

    def __init__(
        self, keys: torch.Tensor, values: torch.Tensor, start: torch.Tensor, places: torch.Tensor
    ) -> None:
        super().__init__(keys.shape[2])
        self.keys, self.values = keys, values
        self.cumulative_length, self._places = start, places
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write this pass's keys and values; returns the whole slot."""
        self.keys.index_copy_(2, self._places, key_states)
        self.values.index_copy_(2, self._places, value_states)
        return self.keys, self.values


class CannotCompileError(Exception):
    """Why a model cannot run compiled, in one line."""


class Step(torch.nn.Module):
    """Reads tokens behind those in a cache, and says what follows them.

    Args:
        attend: whether attention goes through `specbench::attend`, which reads only what is filled.
        vocabulary_size: logits behind it belong to padding ids.
        widest: up to how many rows `specbench::linear` serves a weight, by its shape.
        hidden_layers: as of `KVSession`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        attend: bool,
        keeps_logits: bool,
        takes_positions: bool,
        vocabulary_size: int,
        widest: dict[tuple[int, ...], int],
        hidden_layers: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self._cache_argument = cache_argument(model)
        self._attend = attend
        self._keeps_logits, self.takes_positions = keeps_logits, takes_positions
        self._vocabulary_size = vocabulary_size
        self._widest = widest
        self.hidden_layers = hidden_layers

    def facts(self) -> list[object]:
        """What decides about the pass beside code, configuration and tensors."""
        scalars = self._attend, self._keeps_logits, self.takes_positions, self._vocabulary_size
        return [self._cache_argument, *scalars, sorted(self._widest.items()), self.hidden_layers]

    def tensors(self) -> dict[str, torch.Tensor]:
        """All weights and buffers, tied ones under each of their names."""
        parts = self.named_parameters(remove_duplicate=False), self.named_buffers(remove_duplicate=False)
        return {name: tensor for part in parts for name, tensor in part}

    def forward(
        self,
        token_ids: torch.Tensor,
        places: torch.Tensor,
        rows: torch.Tensor,
        keys: list[torch.Tensor],
        values: list[torch.Tensor],
        given: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """One pass; `keys` and `values` receive those of the tokens.

        Args:
            token_ids: shape (1, width), the model's own ids.
            places: `trees.places` of the tokens, shape (3, width), where `specbench::attend` attends; elsewhere
                that of the first one alone, without dimensions.
            rows: which tokens' logits are wanted, shape (rows,).
            given: as of `KVSession`, where the model reads hidden states.

        Returns:
            Logits, shape (rows, vocabulary), the most likely id of each row, shape (1, rows), and where
            there are `hidden_layers` the hidden states of all tokens, shape (width, layers, size).
        """
        if self._attend:
            attend = torch.ops.specbench.attend
            exchanged = attending(self.model, lambda _, states, scale: attend(*states, places, scale))
            start, slots, positions = places[0, 0], places[0], places[1]
        else:
            exchanged, start = nullcontext(), places
            slots = positions = start + torch.arange(token_ids.shape[1], device=token_ids.device)
        layers = [SlotLayer(*pair, start, slots) for pair in zip(keys, values, strict=True)]
        return self._read(token_ids, positions, rows, layers, exchanged, given)

    def _read(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor,
        rows: torch.Tensor,
        layers: list[CacheLayerMixin],
        exchanged: AbstractContextManager,
        given: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        arguments: dict = {self._cache_argument: Cache(layers=layers)}
        if self._keeps_logits:
            arguments["logits_to_keep"] = rows
        if self.takes_positions:
            arguments["position_ids"] = positions.unsqueeze(0)
        if given is not None:
            arguments["hidden_states"] = given.unsqueeze(0)
        projecting = _Projections(self._widest) if self._widest else nullcontext()
        with exchanged, projecting, collecting(self.model, self.hidden_layers) as found:
            logits = self.model(input_ids=token_ids, use_cache=True, **arguments).logits[0]
        kept = (logits if self._keeps_logits else logits[rows])[:, : self._vocabulary_size]
        choices = kept.argmax(-1).unsqueeze(0)
        states = found.of(self.hidden_layers, 0, token_ids.shape[1])
        return (kept, choices) if states is None else (kept, choices, states)


LayerShape = tuple[int, int, torch.dtype]


def slot_shapes(eager: EagerEngine) -> list[tuple[LayerShape, LayerShape]]:
    """Heads, size and dtype of every layer's keys and values, from a pass over one token.

    Raises:
        CannotCompileError: a layer is not one of full attention.
    """
    session = eager.session()
    session.extend([0])
    layers = getattr(session.cache, "layers", [])
    for layer in layers:
        if type(layer) is not DynamicLayer:
            raise CannotCompileError(f"it has a {type(layer).__name__}, and only full attention is compiled")
    if not layers or session.cached_length != 1:
        raise CannotCompileError("it keeps its state elsewhere than in a cache of keys and values")
    return [
        tuple((part.shape[1], part.shape[3], part.dtype) for part in (layer.keys, layer.values))
        for layer in layers
    ]


class _Projections(TorchFunctionMode):
    """Sends linear layers through `specbench::products` while a model is traced."""

    def __init__(self, widest: dict[tuple[int, ...], int]) -> None:
        super().__init__()
        self._widest = widest

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if func is not torch.nn.functional.linear:
            return func(*args, **(kwargs or {}))
        x, weight, bias = _linear_arguments(*args, **(kwargs or {}))
        widest = self._widest.get(tuple(weight.shape))
        if widest is None or weight.dtype != torch.float32:
            return func(x, weight, bias)
        product = torch.ops.specbench.products(x, [weight], [], [], [widest])
        return product if bias is None else product + bias


def _linear_arguments(
    input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    return input, weight, bias


@contextmanager
def attending(model: PreTrainedModel, attend: Callable[..., torch.Tensor]) -> Iterator[None]:
    """Have a model attend by `attend(module, (query, key, value), scale)`, which knows its cache."""

    def attention(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        **kwargs: object,
    ) -> tuple[torch.Tensor, None]:
        scale = _demanded_scale(query, attention_mask, scaling, kwargs)
        return attend(module, (query, key, value), scale), None

    before = model.config._attn_implementation
    AttentionInterface.register(ATTENTION, attention)
    model.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _demanded_scale(
    query: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None,
    extras: Mapping[str, object],
) -> float:
    """What scores are multiplied by, in attention that is causal and nothing else.

    Raises:
        NotImplementedError: it uses a mask, or extras that our kernels do not know.
    """
    known = attention_mask is None and extras.get("is_causal", True) in (True, None)
    strange = [name for name in UNKNOWN_TO_ATTEND if extras.get(name) is not None]
    if not known or strange:
        raise NotImplementedError(f"its attention uses {', '.join(strange) or 'a mask of its own'}")
    return query.shape[-1] ** -0.5 if scaling is None else scaling
