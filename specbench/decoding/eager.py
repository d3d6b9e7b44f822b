"""The eager engine: transformers' own forward pass, and a cache that grows."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache

from specbench.decoding import packed
from specbench.decoding.engine import Engine, KVSession
from specbench.models.loading import cache_argument

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from specbench.decoding.batch import Block
    from specbench.models.loading import LoadedModel
    from specbench.models.vocabulary import DraftVocabulary


class EagerEngine(Engine):
    """Runs a model with transformers' own forward pass; each session has a growing cache of its own."""

    kind = "eager"

    def __init__(
        self, loaded: LoadedModel, vocabulary_size: int, draft_vocabulary: DraftVocabulary | None = None
    ) -> None:
        super().__init__(loaded, vocabulary_size, draft_vocabulary)
        takes = inspect.signature(loaded.model.forward).parameters
        self._keeps_logits = "logits_to_keep" in takes
        self._takes_positions = "position_ids" in takes
        self._cache_argument = cache_argument(loaded.model)

    def session(self, capacity: int | None = None) -> EagerSession:
        """A cache slot for one sequence, empty; it grows as needed, so `capacity` does not matter."""
        return EagerSession(self)

    def forward(self, token_ids: Sequence[int], cache: DynamicCache, start: int, last: bool) -> torch.Tensor:
        """Run tokens that stand at positions `start` onward; their keys and values join the cache.

        Args:
            last: whether only the last token's logits are wanted.

        Returns:
            Logits, shape (1 if last else len(token_ids), vocabulary_size).
        """
        device = self.loaded.device
        arguments: dict = {}
        if self._keeps_logits and last:
            arguments["logits_to_keep"] = 1
        if self._takes_positions:
            arguments["position_ids"] = torch.arange(start, start + len(token_ids), device=device).unsqueeze(0)
        logits = self.loaded.model(
            input_ids=torch.tensor([self.read(token_ids)], device=device),
            use_cache=True,
            **{self._cache_argument: cache},
            **arguments,
        ).logits
        return self.spoken(logits[0, -1:] if last else logits[0])

    @torch.inference_mode()
    def extend_together(self, blocks: Sequence[Block]) -> list[torch.Tensor]:
        """Append tokens to several sessions in one pass; nothing is padded, and no cache copied.

        Raises:
            ValueError: sequences cannot share passes of this model.
        """
        if not self._takes_positions:
            raise ValueError(f"a {type(self.loaded.model).__name__} does not take the positions of its tokens")
        sessions = [block.session for block in blocks]
        tokens = [list(self.read(block.token_ids)) for block in blocks]
        starts = [(session.length, len(part)) for session, part in zip(sessions, tokens, strict=True)]
        positions = [position for start, count in starts for position in range(start, start + count)]
        device = self.loaded.device
        with packed.packing(
            self.loaded.model, [session.cache for session in sessions], [len(part) for part in tokens]
        ) as cache:
            logits = self.loaded.model(
                input_ids=torch.tensor([[token for part in tokens for token in part]], device=device),
                position_ids=torch.tensor([positions], device=device),
                use_cache=True,
                **{self._cache_argument: cache},
            ).logits
        for session, part in zip(sessions, tokens, strict=True):
            session.grown(len(part))
        return list(self.spoken(logits[0]).split([len(part) for part in tokens]))


def growing_cache(model: PreTrainedModel, rolls_back: bool = True) -> DynamicCache:
    """An empty cache for one sequence of a model.

    Args:
        rolls_back: whether tokens may be taken out of it again.
    """
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    if rolls_back and hasattr(cache, "activate_past_recording"):
        # Sliding-window and convolutional layers drop the past at once unless told to wait for a crop.
        cache.activate_past_recording()
    return cache


class EagerSession(KVSession):
    """One sequence in a `DynamicCache`."""

    def __init__(self, engine: EagerEngine) -> None:
        super().__init__(engine)
        self.cache = growing_cache(engine.loaded.model)

    @torch.inference_mode()
    def prefill(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Append a prompt; returns the logits after its last token, shape (1, vocabulary_size)."""
        return self._append(token_ids, last=True)

    @torch.inference_mode()
    def extend(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Append tokens; row i of the result follows token i, shape (len(token_ids), vocabulary_size)."""
        return self._append(token_ids, last=False)

    @torch.inference_mode()
    def _forget(self, count: int) -> None:
        # transformers 5 takes the number of tokens to remove, as a negative number; zero lets layers that
        # recorded their past trim it.
        self.cache.crop(-count)

    @property
    def cached_length(self) -> int:
        """The length that the cache itself reports; equal to `length` unless something is wrong."""
        return self.cache.get_seq_length()

    @property
    def fixed_layer(self) -> str | None:
        """The first kind of layer that cannot be rolled back, if there is one."""
        for layer in self.cache.layers:
            sliding = getattr(layer, "is_sliding", False) and not getattr(layer, "record_past", False)
            if sliding or not getattr(layer, "is_croppable", hasattr(layer, "crop")):
                return type(layer).__name__
        return None if self.cached_length == self._length else "the model keeps its state elsewhere"

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The cache's tensors with their names, for the precision audit."""
        for index, layer in enumerate(self.cache.layers):
            for kind in ("keys", "values"):
                tensor = getattr(layer, kind, None)
                if tensor is not None:
                    yield f"cache.layers.{index}.{kind}", tensor

    def grown(self, count: int) -> None:
        """A pass that others shared has put `count` tokens into the cache."""
        self._length += count

    def _append(self, token_ids: Sequence[int], last: bool) -> torch.Tensor:
        logits = self._engine.forward(token_ids, self.cache, self._length, last)
        self._length += len(token_ids)
        return logits
