"""The eager engine: transformers' own forward pass, and a cache that grows."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin

from specbench.engine import packed
from specbench.engine.base import Engine
from specbench.engine.hidden_states import collecting
from specbench.engine.session import Block, KVSession
from specbench.errors import ExitCode, SpecbenchError
from specbench.models import caches
from specbench.models.context import switch_of
from specbench.models.library import cache_argument

if TYPE_CHECKING:
    from transformers.cache_utils import Cache

    from specbench.models.loading import LoadedModel
    from specbench.models.vocabulary import DraftVocabulary


PREFILL_CHUNK = 2048
"""Tokens of a prompt that are read in one pass: what a pass needs beside the cache grows with them."""


class EagerEngine(Engine):
    """Runs a model with transformers' own forward pass; each session has a growing cache of its own."""

    kind = "eager"

    def __init__(
        self, loaded: LoadedModel, vocabulary_size: int, draft_vocabulary: DraftVocabulary | None = None
    ) -> None:
        super().__init__(loaded, vocabulary_size, draft_vocabulary)
        self._cache_argument = cache_argument(loaded.model)
        if self._cache_argument is None:
            raise SpecbenchError(
                f"{loaded.folder} cannot be decoded token by token: {type(loaded.model).__name__} takes no "
                "cache of what it has read",
                "choose a model that transformers decodes with a cache",
                ExitCode.MODEL,
            )
        self.rolls_back = caches.rolls_back(loaded.model)
        # A recurrent state may begin anew with each pass, and rotary frequencies depend on a pass's length.
        in_parts = self.rolls_back and switch_of(loaded.model.config) is None
        self.prefill_chunk = PREFILL_CHUNK if in_parts else None
        takes = inspect.signature(loaded.model.forward).parameters
        self._keeps_logits = "logits_to_keep" in takes
        # RoBERTa and its kin count positions from behind their padding id, and do it best themselves.
        counts = any(hasattr(part, "create_position_ids_from_input_ids") for part in loaded.model.modules())
        self._takes_positions = "position_ids" in takes and not counts
        self._keeps_texts_apart = True
        self._newest: weakref.ref[EagerSession] | None = None

    def session(self, capacity: int | None = None) -> EagerSession:
        """A cache slot for one sequence, empty; it grows as needed, so `capacity` does not matter."""
        session = EagerSession(self)
        self._newest = weakref.ref(session)
        return session

    def require_steps(self) -> None:
        """As of every engine; learns too whether the model keeps a text's state in itself."""
        super().require_steps()
        if caches.is_stateful(self.loaded.model):
            self._keeps_texts_apart = torch.equal(self._after_prompt(), self._after_prompt(between=True))

    def demand_apart(self, session: EagerSession) -> None:
        """Refuse to go on with a text whose state another one has overwritten, as in RecurrentGemma.

        Raises:
            SpecbenchError: the model keeps the state of one text, and another one has begun.
        """
        if not self._keeps_texts_apart and self._newest is not None and self._newest() is not session:
            raise SpecbenchError(
                f"{type(self.loaded.model).__name__} keeps the state of one text, and another one has begun",
                "decode one text at a time",
                ExitCode.RUN,
            )

    def _after_prompt(self, between: bool = False) -> torch.Tensor:
        """Logits of a token behind a prompt, with or without another text between them."""
        session = self.session()
        session.prefill(self._tokens(3))
        if between:
            self.session().prefill(self._tokens(5)[::-1])
        return session.extend(self._tokens(1))

    @property
    def lasting_state(self) -> str | None:
        """What transformers says of the model's class."""
        kind = type(self.loaded.model).__name__
        if caches.is_stateful(self.loaded.model):
            return f"{kind} is stateful, and its state cannot go back to an earlier token"
        if caches.makes_own_cache(self.loaded.model):
            return f"{kind} keeps a cache of its own, from which nothing can be taken"
        return None

    def forward(
        self,
        token_ids: Sequence[int],
        cache: Cache | None,
        start: int,
        last: int,
        given: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, Cache]:
        """Run tokens that stand at positions `start` onward; their keys and values join the cache.

        Args:
            cache: `None` before the first pass of a model that makes its own.
            last: of how many tokens, the last ones, logits are wanted; 0 are all.
            given: as of `KVSession`.

        Returns:
            Logits, shape (last or len(token_ids), vocabulary_size), and the cache.
        """
        device = self.loaded.device
        arguments: dict = {}
        if self._keeps_logits and last:
            arguments["logits_to_keep"] = last
        if self._takes_positions:
            arguments["position_ids"] = torch.arange(start, start + len(token_ids), device=device).unsqueeze(0)
        if given is not None:
            arguments["hidden_states"] = given.unsqueeze(0)
        self.passes += 1
        if cache is not None:
            arguments[self._cache_argument] = cache
        output = self.loaded.model(
            input_ids=torch.tensor([self.to_own_ids(token_ids)], device=device), use_cache=True, **arguments
        )
        logits = self.to_target_logits(output.logits[0, -last:])
        return logits, output[self._cache_argument] if cache is None else cache

    @torch.inference_mode()
    def extend_together(self, blocks: Sequence[Block]) -> list[torch.Tensor]:
        """Append tokens to several sessions in one pass; nothing is padded, and no cache copied.

        Raises:
            ValueError: neither sequences nor branches of a tree can share passes of this model.
        """
        if not self._takes_positions:
            raise ValueError(f"a {type(self.loaded.model).__name__} does not take the positions of its tokens")
        tokens: list[int] = []
        positions: list[int] = []
        seen: list[list[int]] = []
        for block in blocks:
            _, stand, sees = block.session.places(len(block.token_ids), block.parents)
            tokens += self.to_own_ids(block.token_ids)
            positions += stand
            seen.append(sees)
        device, widths = self.loaded.device, [len(block.token_ids) for block in blocks]
        sessions = [block.session for block in blocks]
        arguments = {}
        given = [session.given for session in sessions if session.given is not None]
        if given:
            arguments["hidden_states"] = torch.cat(given).unsqueeze(0)
        self.passes += 1
        asked = {layer for session in sessions for layer in session.hidden_layers}
        caches = [session.cache for session in sessions]
        with (
            packed.packing(self.loaded.model, caches, seen) as cache,
            collecting(self.loaded.model, asked) as found,
        ):
            logits = self.loaded.model(
                input_ids=torch.tensor([tokens], device=device),
                position_ids=torch.tensor([positions], device=device),
                use_cache=True,
                **{self._cache_argument: cache},
                **arguments,
            ).logits
        begin = 0
        for block, width in zip(blocks, widths, strict=True):
            block.session.hidden_states = found.of(block.session.hidden_layers, begin, width)
            block.session.grown(width, block.parents)
            begin += width
        return list(self.to_target_logits(logits[0]).split(widths))


class EagerSession(KVSession):
    """One sequence in a `DynamicCache`, or in what the model makes instead."""

    def __init__(self, engine: EagerEngine) -> None:
        super().__init__(engine.role)
        self._engine = engine
        self.cache: Cache | None = caches.growing_cache(engine.loaded.model)

    @torch.inference_mode()
    def prefill(self, token_ids: Sequence[int], rows: int = 1) -> torch.Tensor:
        """Append a prompt; returns the logits after its last `rows` tokens, shape (rows, vocabulary_size)."""
        length, chunk = len(token_ids), self._engine.prefill_chunk or len(token_ids)
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
        if self._engine.rolls_back:
            # transformers 5 takes the number of tokens to remove, as a negative number; zero lets layers that
            # recorded their past trim it.
            self.cache.crop(-count)
        elif count:
            raise ValueError(f"nothing can be forgotten: {self._engine.lasting_state}")

    @property
    def cached_length(self) -> int:
        """The length that the cache itself reports; equal to `length` unless something is wrong.

        Recurrent layers report none, and what a model makes itself may report anything.
        """
        if type(self.cache) is not DynamicCache or not any(map(_has_length, self.cache.layers)):
            return self._length
        return self.cache.get_seq_length()

    @property
    def own_window(self) -> int:
        """Tokens behind which a layer of the model's own making drops some; 0 where there is none."""
        own = [layer for layer in self.cache.layers if type(layer).__module__ != DynamicCache.__module__]
        return max((getattr(layer, "sliding_window", None) or 0 for layer in own), default=0)

    @property
    def fixed_layer(self) -> str | None:
        """The first kind of layer that cannot be rolled back, if there is one."""
        for layer in self.cache.layers:
            sliding = getattr(layer, "is_sliding", False) and not getattr(layer, "record_past", False)
            if sliding or not getattr(layer, "is_croppable", hasattr(layer, "crop")):
                return type(layer).__name__
        return None if self.cached_length == self._length else "the model keeps its state elsewhere"

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The cache's tensors with their names, for the precision audit: keys, values, recurrent states."""
        for index, layer in enumerate(getattr(self.cache, "layers", ())):
            for kind, held in vars(layer).items():
                parts = held.items() if isinstance(held, dict) else [(None, held)]
                for part, tensor in parts:
                    if isinstance(tensor, torch.Tensor) and not kind.startswith("_"):
                        suffix = "" if part is None else f".{part}"
                        yield f"cache.layers.{index}.{kind}{suffix}", tensor

    def _append(self, token_ids: Sequence[int], last: int) -> torch.Tensor:
        self._engine.demand_apart(self)
        self.demand_no_tree()
        with collecting(self._engine.loaded.model, self.hidden_layers) as found:
            logits, self.cache = self._engine.forward(token_ids, self.cache, self._length, last, self.given)
        self.hidden_states = found.of(self.hidden_layers, 0, len(token_ids))
        self.grown(len(token_ids))
        return logits


def _has_length(layer: object) -> bool:
    """Whether a layer keeps tokens; a recurrent one keeps a state of one size."""
    return isinstance(layer, CacheLayerMixin)
