"""One sequence in transformers' own cache, which grows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin

from specbench.engine.base import Engine
from specbench.engine.hidden_states import collecting
from specbench.engine.session import Block, KVSession
from specbench.models import caches

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache

    from specbench.models.media import Media


class EagerPasses(Engine):
    """What sessions of the eager engine ask of it."""

    prefill_chunk: int | None
    """Tokens of a prompt that are read in one pass; `None` where that must be all."""
    state_holder: PreTrainedModel | None
    """The model, where it keeps the state of a text in itself."""
    reads_singly: bool
    """Whether a pass behind a prompt must read one token: the model forgets its state before more."""

    @abstractmethod
    def forward(
        self,
        token_ids: Sequence[int],
        cache: Cache | None,
        start: int,
        last: int,
        given: torch.Tensor | None = None,
        media: Media | None = None,
    ) -> tuple[torch.Tensor, Cache]:
        """Run tokens that stand at positions `start` onward; their keys and values join the cache.

        Args:
            cache: `None` before the first pass of a model that makes its own.
            last: of how many tokens, the last ones, logits are wanted; 0 are all.
            given: as of `KVSession`.
            media: what the tokens have placeholders for.

        Returns:
            Logits, shape (last or len(token_ids), vocabulary_size), and the cache.
        """

    @abstractmethod
    def demand_apart(self, session: EagerSession) -> None:
        """Refuse to go on with a text whose state another one has overwritten, as in RecurrentGemma.

        Raises:
            SpecbenchError: the model keeps the state of one text, and another one has begun.
        """


class EagerSession(KVSession):
    """One sequence in a `DynamicCache`, or in what the model makes instead."""

    def __init__(self, engine: EagerPasses) -> None:
        super().__init__(engine.role)
        self._engine = engine
        self.cache: Cache | None = caches.growing_cache(engine.loaded.model)
        self._media: Media | None = None
        self._shown = 0
        """Tokens up to the last one that stands for a part of an image or a sound."""

    def show(self, media: Media) -> None:
        """As of every session; whatever is read from the text's begin on, the prompt is a part of it."""
        self._media = media

    @torch.inference_mode()
    def prefill(self, token_ids: Sequence[int], rows: int = 1) -> torch.Tensor:
        """Append a prompt; returns the logits after its last `rows` tokens, shape (rows, vocabulary_size)."""
        length = len(token_ids)
        chunk = length if self._media else self._engine.prefill_chunk or length
        ends = [0]
        while length - ends[-1] > max(chunk, rows):
            ends.append(min(ends[-1] + chunk, length - rows))
        return self.in_parts(
            [*ends[1:], length],
            lambda begin, end: self._append(token_ids[begin:end], last=rows if end == length else 1),
        )

    @torch.inference_mode()
    def extend(self, token_ids: Sequence[int], parents: Sequence[int] | None = None) -> torch.Tensor:
        """As of every session; a tree is read as by several sequences that share a pass."""
        if parents is not None:
            return self._engine.extend_together([Block(self, token_ids, parents)])[0]
        return self._append(token_ids, last=0)

    @torch.inference_mode()
    def _forget(self, count: int) -> None:
        if 0 < self._length - count < self._shown:
            raise ValueError("cannot truncate within what stands for an image or a sound")
        if self.cache is not None:  # a model that makes its own has a state, which is not cut
            caches.cut(self.cache, count)

    @property
    def cached_length(self) -> int:
        """The length that the cache itself reports; equal to `length` unless something is wrong."""
        reported = self._reported_length
        return self._length if reported is None else reported

    @property
    def _reported_length(self) -> int | None:
        """Recurrent layers report none, and what a model makes itself may report anything."""
        if type(self.cache) is not DynamicCache or not any(map(_has_length, self.cache.layers)):
            return None
        return self.cache.get_seq_length()

    @property
    def _layers(self) -> list[Any]:
        """Those of the cache; none before a model that makes its own has made it."""
        return list(getattr(self.cache, "layers", ()))

    @property
    def own_window(self) -> int:
        """Tokens behind which a layer of the model's own making drops some; 0 where there is none."""
        own = [layer for layer in self._layers if type(layer).__module__ != DynamicCache.__module__]
        return max((getattr(layer, "sliding_window", None) or 0 for layer in own), default=0)

    @property
    def fixed_layer(self) -> str | None:
        """The first kind of layer that cannot be rolled back, if there is one."""
        for layer in self._layers:
            sliding = getattr(layer, "is_sliding", False) and not getattr(layer, "record_past", False)
            if sliding or not getattr(layer, "is_croppable", hasattr(layer, "crop")):
                return type(layer).__name__
        return None if self.cached_length == self._length else "the model keeps its state elsewhere"

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The cache's tensors with their names, for the precision audit: keys, values, recurrent states."""
        for index, layer in enumerate(self._layers):
            for kind, held in vars(layer).items():
                parts = held.items() if isinstance(held, dict) else [(None, held)]
                for part, tensor in parts:
                    if isinstance(tensor, torch.Tensor) and not kind.startswith("_"):
                        suffix = "" if part is None else f".{part}"
                        yield f"cache.layers.{index}.{kind}{suffix}", tensor

    def _append(self, token_ids: Sequence[int], last: int) -> torch.Tensor:
        self.demand_no_tree()
        logits = self._pass(token_ids, self._length, last)
        self.grown(len(token_ids))
        return logits

    def _pass(self, token_ids: Sequence[int], start: int, last: int) -> torch.Tensor:
        """Read tokens that stand at positions `start` onward; the arguments are those of the engine's pass."""
        with collecting(self._engine.loaded.model, self.hidden_layers) as found:
            media = None if start else self._media
            logits, self.cache = self._engine.forward(token_ids, self.cache, start, last, self.given, media)
        self._shown = media.end_in(token_ids) if media else self._shown
        self.hidden_states = found.of(self.hidden_layers, 0, len(token_ids))
        return logits


def _has_length(layer: object) -> bool:
    """Whether a layer keeps tokens; a recurrent one keeps a state of one size."""
    return isinstance(layer, CacheLayerMixin)
