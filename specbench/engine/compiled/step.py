"""One pass of a model over a static cache, as a module that can be exported or captured."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from transformers.cache_utils import Cache, CacheLayerMixin, StaticLayer

from specbench.engine.compiled import own_attention
from specbench.engine.compiled.attention import Asked, attending
from specbench.engine.compiled.experts import choosing
from specbench.engine.compiled.layers import SharingLayer, is_latent
from specbench.engine.hidden_states import collecting
from specbench.engine.kernels.choice import WIDTHS
from specbench.engine.mixtures import is_router
from specbench.engine.quantized import QuantizedLinear, is_linear
from specbench.models.library import cache_argument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from transformers import PreTrainedModel

    from specbench.engine.compiled.attention import Attend
    from specbench.engine.compiled.layers import Kept


class SlotLayer(StaticLayer):
    """One layer of a cache slot: tensors of fixed size, written at the positions of this pass.

    Args:
        keys: shape (1, key heads, capacity, head size); `values` likewise.
        start: tokens before this pass, a tensor without dimensions.
        places: where those of this pass are written, shape (width,).
        is_whole: whether attention is handed the whole slot, of which it reads what is filled; else that alone.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(
        self,
        keys: torch.Tensor,
        values: torch.Tensor,
        start: torch.Tensor,
        places: torch.Tensor,
        is_whole: bool,
    ) -> None:
        super().__init__(keys.shape[2])
        self.keys, self.values = keys, values
        self.cumulative_length, self._places, self._is_whole = start, places, is_whole
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write this pass's keys and values; returns those that attention reads."""
        self.keys.index_copy_(2, self._places, key_states)
        self.values.index_copy_(2, self._places, value_states)
        if self._is_whole:
            return self.keys, self.values
        filled: Any = self._places[-1].item() + 1  # while torch traces, a size that it does not know
        torch._check(filled >= 0)
        torch._check(filled <= self.keys.shape[2])
        return self.keys.narrow(2, 0, filled), self.values.narrow(2, 0, filled)


class Step(torch.nn.Module):
    """Reads tokens behind those in a cache, and says what follows them.

    Args:
        attend: whether attention goes through `specbench::attend`, which reads only what is filled.
        vocabulary_size: logits behind it belong to padding ids.
        widest: up to how many rows `specbench::linear` serves a weight, by its shape.
        layers: what each layer keeps of a token; `None` for one that reads what another keeps.
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
        layers: Sequence[Kept | None],
        hidden_layers: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self._layers = tuple(layers)
        self._cache_argument = cache_argument(model)
        self._attend = attend
        self._own = own_attention.of(model) if attend else None
        self._keeps_logits, self.takes_positions = keeps_logits, takes_positions
        self._vocabulary_size = vocabulary_size
        self._widest = widest
        self.hidden_layers = hidden_layers

    @property
    def narrow(self) -> int:
        """Up to how many tokens our kernels do all products, so that their threads can stay together."""
        if not self._attend:
            return 0
        known = [self._widest.get(tuple(weight.shape), 0) for weight in multiplied(self.model)]
        known += [WIDTHS[-1] for part in self.model.modules() if isinstance(part, QuantizedLinear)]
        return min(known, default=0)

    def facts(self) -> list[object]:
        """What decides about the pass beside code, configuration and tensors."""
        scalars = self._attend, self._keeps_logits, self.takes_positions, self._vocabulary_size
        return [self._cache_argument, *scalars, sorted(self._widest.items()), self._layers, self.hidden_layers]

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
            ops = torch.ops.specbench

            def attend(states: tuple[torch.Tensor, ...], asked: Asked) -> torch.Tensor:
                if extras := asked.extras:
                    return ops.attend_within(*states, places, asked.scale, *extras)
                return ops.attend(*states, places, asked.scale)

            exchanged = self._exchanged(attend)
            start, slots, positions = places[0, 0], places[0], places[1]
        else:
            exchanged, start = nullcontext(), places
            slots = positions = start + torch.arange(token_ids.shape[1], device=token_ids.device)
        is_whole = not (self._attend and is_latent(self.model.config))
        kept = (SlotLayer(*pair, start, slots, is_whole) for pair in zip(keys, values, strict=True))
        return self._read(token_ids, positions, rows, self._shared(kept), exchanged, given)

    @property
    def knows_positions(self) -> bool:
        """Whether a token may stand elsewhere in its text than in its cache."""
        return self.takes_positions or bool(self._own and self._own.alibi)

    def _exchanged(self, attend: Attend) -> AbstractContextManager:
        if self._own:
            return self._own.attending(self.model, attend)
        has_limits = any(layer and layer.window for layer in self._layers)
        return attending(self.model, attend, has_limits)

    def _shared(self, kept: Iterable[CacheLayerMixin]) -> list[CacheLayerMixin]:
        """A layer of a cache for each of the model's, from those that keep something."""
        rest = iter(kept)
        return [next(rest) if layer else SharingLayer() for layer in self._layers]

    def _read(
        self,
        token_ids: torch.Tensor,
        positions: torch.Tensor,
        rows: torch.Tensor,
        layers: list[CacheLayerMixin],
        exchanged: AbstractContextManager,
        given: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        arguments: dict = {self._cache_argument: Cache(layers=list(layers))}
        if self._keeps_logits:
            arguments["logits_to_keep"] = rows
        if self.takes_positions:
            arguments["position_ids"] = positions.unsqueeze(0)
        if given is not None:
            arguments["hidden_states"] = given.unsqueeze(0)
        projecting = _Projections(self._widest) if self._widest else nullcontext()
        experts = choosing(self.model) if self._attend else nullcontext()
        with exchanged, experts, projecting, collecting(self.model, self.hidden_layers) as found:
            logits = self.model(input_ids=token_ids, use_cache=True, **arguments).logits[0]
        kept = (logits if self._keeps_logits else logits[rows])[:, : self._vocabulary_size]
        choices = kept.argmax(-1).unsqueeze(0)
        states = found.of(self.hidden_layers, 0, token_ids.shape[1])
        return (kept, choices) if states is None else (kept, choices, states)


def multiplied(model: PreTrainedModel) -> Iterator[torch.Tensor]:
    """The matrices that rows are multiplied with: of linear layers, and of what chooses experts."""
    for part in model.modules():
        weight: Any = getattr(part, "weight", None)
        if is_router(part) or (isinstance(part, torch.nn.Linear) and is_linear(type(part))):
            yield weight


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
