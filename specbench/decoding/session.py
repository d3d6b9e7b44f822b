"""Forward passes with a key-value cache that can be rolled back. Nothing else touches a cache."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache

from specbench.errors import ExitCode, SpecbenchError

if TYPE_CHECKING:
    from specbench.models.loading import LoadedModel
    from specbench.models.vocabulary import DraftVocabulary


class EagerEngine:
    """Runs a model with transformers' own forward pass; each session has a growing cache of its own.

    Token ids and logits are the target's, whatever the model's own vocabulary is.

    Args:
        vocabulary_size: ids that mean something; logits of padding ids behind them are cut off.
        draft_vocabulary: how a draft with ids of its own reads and says the target's.
    """

    kind = "eager"

    def __init__(
        self, loaded: LoadedModel, vocabulary_size: int, draft_vocabulary: DraftVocabulary | None = None
    ) -> None:
        self.loaded = loaded
        self.vocabulary_size = vocabulary_size
        self._draft_vocabulary = draft_vocabulary
        takes = inspect.signature(loaded.model.forward).parameters
        self._keeps_logits = "logits_to_keep" in takes
        self._takes_positions = "position_ids" in takes

    @property
    def speakable_tokens(self) -> int:
        """How many of the target's tokens the model can say."""
        return len(self._draft_vocabulary.target_ids) if self._draft_vocabulary else self.vocabulary_size

    def session(self) -> KVSession:
        """A cache slot for one sequence, empty."""
        return KVSession(self)

    def require_rollback(self) -> None:
        """Refuse a model whose cache cannot be shortened again, before anything is timed.

        Raises:
            SpecbenchError: naming the layer type that stands in the way.
        """
        session = self.session()
        obstacle: str | None = None
        try:
            session.extend([0, 0])
            if not session.can_truncate:
                obstacle = session.fixed_layer
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            obstacle = str(error).strip().splitlines()[0] or type(error).__name__
        if obstacle:
            raise SpecbenchError(
                f"the cache of {self.loaded.folder} cannot be rolled back, which speculation needs: {obstacle}",
                "use a model with attention layers only, for edge and cloud",
                ExitCode.MODEL,
            )

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
        own_ids = self._draft_vocabulary.to_draft(token_ids) if self._draft_vocabulary else token_ids
        logits = self.loaded.model(
            input_ids=torch.tensor([own_ids], device=device),
            past_key_values=cache,
            use_cache=True,
            **arguments,
        ).logits
        rows = logits[0, -1:] if last else logits[0]
        return (
            self._draft_vocabulary.scatter(rows) if self._draft_vocabulary else rows[:, : self.vocabulary_size]
        )


class KVSession:
    """One sequence in a cache: append tokens, read their logits, cut back to an absolute length."""

    def __init__(self, engine: EagerEngine) -> None:
        self._engine = engine
        self._cache = DynamicCache(config=engine.loaded.model.config.get_text_config(decoder=True))
        if hasattr(self._cache, "activate_past_recording"):
            # Sliding-window and convolutional layers drop the past at once unless told to wait for a crop.
            self._cache.activate_past_recording()
        self._length = 0

    @property
    def length(self) -> int:
        """Tokens whose keys and values are in the cache."""
        return self._length

    @torch.inference_mode()
    def prefill(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Append a prompt; returns the logits after its last token, shape (1, vocabulary_size)."""
        return self._append(token_ids, last=True)

    @torch.inference_mode()
    def extend(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Append tokens; row i of the result follows token i, shape (len(token_ids), vocabulary_size)."""
        return self._append(token_ids, last=False)

    @torch.inference_mode()
    def truncate(self, length: int) -> None:
        """Forget all tokens behind the first `length`.

        Raises:
            ValueError: `length` is negative or longer than the cache.
        """
        if not 0 <= length <= self._length:
            raise ValueError(f"cannot truncate a cache of {self._length} tokens to {length}")
        # transformers 5 takes the number of tokens to remove, as a negative number; zero lets layers that
        # recorded their past trim it.
        self._cache.crop(length - self._length)
        self._length = length

    @property
    def cached_length(self) -> int:
        """The length that the cache itself reports; equal to `length` unless something is wrong."""
        return self._cache.get_seq_length()

    @property
    def can_truncate(self) -> bool:
        """Whether every layer that has been used can be rolled back."""
        return self.cached_length == self._length and self.fixed_layer is None

    @property
    def fixed_layer(self) -> str | None:
        """The first kind of layer that cannot be rolled back, if there is one."""
        for layer in self._cache.layers:
            sliding = getattr(layer, "is_sliding", False) and not getattr(layer, "record_past", False)
            if sliding or not getattr(layer, "is_croppable", hasattr(layer, "crop")):
                return type(layer).__name__
        return None if self.cached_length == self._length else "the model keeps its state elsewhere"

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The cache's tensors with their names, for the precision audit."""
        for index, layer in enumerate(self._cache.layers):
            for kind in ("keys", "values"):
                tensor = getattr(layer, kind, None)
                if tensor is not None:
                    yield f"cache.layers.{index}.{kind}", tensor

    def _append(self, token_ids: Sequence[int], last: bool) -> torch.Tensor:
        logits = self._engine.forward(token_ids, self._cache, self._length, last)
        self._length += len(token_ids)
        return logits
