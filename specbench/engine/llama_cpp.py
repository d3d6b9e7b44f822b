"""The llama.cpp engine: a GGUF model drafts in llama.cpp, whose own calls roll its KV cache back."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from specbench.engine.base import Engine
from specbench.engine.session import Block, KVSession
from specbench.errors import ExitCode, ModelError, SpecbenchError
from specbench.models.llama_library import LlamaModel, LoadedGguf, last_error

if TYPE_CHECKING:
    import numpy as np

    from specbench.models.media import Media
    from specbench.models.vocabulary import DraftVocabulary

CACHE_TYPES = {"float32": "GGML_TYPE_F32", "float16": "GGML_TYPE_F16", "bfloat16": "GGML_TYPE_BF16"}
STEP = 256  # llama.cpp rounds the size of a cache up to a multiple of this
DEFAULT_CAPACITY = 512
SPARE = 65  # the longest draft that a profile allows, and one
WIDEST, MOST_ROWS = 512, 64  # tokens of a pass, and how many of them may ask for logits
NO_TREES = "the llama.cpp engine reads chains of tokens"
SEQUENCE = 0


class LlamaCppEngine(Engine):
    """Runs a GGUF model in llama.cpp on the CPU; a session's cache is a context of its own."""

    kind = "llama_cpp"
    module = None
    loaded: LoadedGguf  # type: ignore[assignment]  # what asks for a model of transformers is overridden

    def __init__(
        self, loaded: LoadedGguf, vocabulary_size: int, draft_vocabulary: DraftVocabulary | None = None
    ) -> None:
        super().__init__(loaded, vocabulary_size, draft_vocabulary)  # type: ignore[arg-type]  # as above
        self._free: list[_Context] = []

    @property
    def own_size(self) -> int:
        """Ids that the model itself has."""
        return self.loaded.model.rows

    @property
    def weight_bytes(self) -> int | None:
        """Bytes of weights that one token must read, as the file keeps them."""
        return self.loaded.header.weight_bytes

    @property
    def lasting_state(self) -> str | None:
        """What llama.cpp says of the architecture."""
        named = self.loaded.header.architecture
        return f"{named} keeps a recurrent state" if self.loaded.model.keeps_state else None

    @cached_property
    def tree_obstacle(self) -> str | None:
        """Trees are not read."""
        return NO_TREES

    def session(self, capacity: int | None = None) -> LlamaCppSession:
        """A cache for one sequence, empty, with room for `capacity` tokens and one refused draft."""
        room = (DEFAULT_CAPACITY if capacity is None else capacity) + SPARE
        size = -(-room // STEP) * STEP
        fitting = next((context for context in self._free if context.size >= size), None)
        if fitting:
            self._free.remove(fitting)
        else:
            self._free.clear()  # they are too small, and shall not take memory beside the new one
            fitting = _Context(self.loaded, size)
        fitting.clear()
        session = LlamaCppSession(self, fitting)
        weakref.finalize(session, self._free.append, fitting)
        return session

    def extend_together(self, blocks: Sequence[Block]) -> list[torch.Tensor]:
        """Sequences do not share passes here.

        Raises:
            ValueError: always.
        """
        raise ValueError("sequences do not share passes of the llama.cpp engine")

    def recompute(self, token_ids: Sequence[int], count: int, media: Media | None = None) -> torch.Tensor:
        """Logits behind the last `count` tokens from an empty cache, shape (count, vocabulary_size)."""
        session = self.session(len(token_ids))
        if media:
            session.show(media)
        return session.read(token_ids, count)


class LlamaCppSession(KVSession):
    """One sequence in a context of llama.cpp."""

    def __init__(self, engine: LlamaCppEngine, context: _Context) -> None:
        super().__init__(engine.role)
        self._engine = engine
        self._context = context

    def prefill(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Append a prompt; returns the logits after its last token, shape (1, vocabulary_size)."""
        return self.read(token_ids, 1)

    def extend(self, token_ids: Sequence[int], parents: Sequence[int] | None = None) -> torch.Tensor:
        """Append tokens; row i of the result follows token i.

        Raises:
            ValueError: a tree was given, or there is no room; nothing was read.
        """
        if parents is not None:
            raise ValueError(NO_TREES)
        return self.read(token_ids, len(token_ids))

    def read(self, token_ids: Sequence[int], rows: int) -> torch.Tensor:
        """Append tokens; returns the logits after the last `rows` of them, shape (rows, vocabulary_size)."""
        self.demand_room(len(token_ids))
        own_ids = self._engine.to_own_ids(token_ids)
        found = []
        self._engine.passes += 1
        try:
            for begin, end, wanted in _chunks(len(own_ids), rows):
                logits = self._context.read(own_ids[begin:end], wanted)
                found.append(torch.from_numpy(logits))
        except BaseException:
            self._context.truncate(self._length)
            raise
        self.grown(len(token_ids))
        return self._engine.to_target_logits(torch.cat(found) if len(found) > 1 else found[0])

    def demand_room(self, count: int) -> None:
        """Refuse what does not fit, before anything is written.

        Raises:
            ValueError: the cache was made for fewer tokens.
        """
        if self._length + count > self._context.size:
            raise ValueError(f"{self._length + count} tokens do not fit a cache of {self._context.size}")

    def _forget(self, count: int) -> None:
        self._context.truncate(self._length - count)

    @property
    def cached_length(self) -> int:
        """The length that llama.cpp reports."""
        return self._context.length

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """None: llama.cpp shows no tensor of its cache."""
        return iter(())


def _chunks(count: int, rows: int) -> Iterator[tuple[int, int, int]]:
    """Passes over `count` tokens: where each begins and ends, and how many of its tokens ask for logits."""
    begin, silent = 0, count - rows
    while begin < count:
        end = min(count, begin + WIDEST, max(silent, begin) + MOST_ROWS)
        yield begin, end, max(0, end - max(begin, silent))
        begin = end


class _Context:
    """A context of llama.cpp with a cache for one sequence, freed with the object."""

    def __init__(self, loaded: LoadedGguf, size: int) -> None:
        self._model: LlamaModel = loaded.model  # which must outlive it
        self._llama = llama = loaded.model.library
        params = llama.llama_context_default_params()
        params.n_ctx = size
        params.n_batch = params.n_ubatch = min(WIDEST, size)
        params.n_outputs_max = params.n_outputs_max_per_seq = MOST_ROWS
        params.n_threads = params.n_threads_batch = loaded.threads
        params.type_k = params.type_v = getattr(llama, CACHE_TYPES[str(loaded.dtype).removeprefix("torch.")])
        if loaded.flash_attention == "off":
            params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.swa_full = True  # a window that drops tokens could not be rolled back
        self._handle = llama.llama_init_from_model(loaded.model.handle, params)
        if not self._handle:
            raise ModelError(
                f"llama.cpp makes no cache of {size} tokens for {loaded.folder}: {last_error()}",
                "lower workload.max_new_tokens, or choose another edge.dtype for the cache",
            )
        weakref.finalize(self, llama.llama_free, self._handle)
        self._memory = llama.llama_get_memory(self._handle)
        self.size = llama.llama_n_ctx(self._handle)

    @property
    def length(self) -> int:
        return self._llama.llama_memory_seq_pos_max(self._memory, SEQUENCE) + 1

    def clear(self) -> None:
        self._llama.llama_memory_clear(self._memory, False)

    def truncate(self, length: int) -> None:
        """Take out all tokens behind the first `length`."""
        if not self._llama.llama_memory_seq_rm(self._memory, SEQUENCE, length, -1):
            raise ValueError(f"llama.cpp cannot take tokens out of the cache of {self._model.named}")

    def read(self, token_ids: Sequence[int], rows: int) -> np.ndarray:
        """One pass; the logits after the last `rows` tokens, shape (rows, ids of the model)."""
        import numpy as np

        llama, count = self._llama, len(token_ids)
        batch = llama.llama_batch(  # positions and sequence are llama.cpp's to fill in
            n_tokens=count,
            token=(llama.llama_token * count)(*token_ids),
            logits=(ctypes.c_int8 * count)(*[index >= count - rows for index in range(count)]),
        )
        status = llama.llama_decode(self._handle, batch)
        if status:
            raise SpecbenchError(
                f"llama.cpp failed to read {count} tokens (llama_decode: {status}): {last_error()}",
                "see its log with 'specbench --debug ...'",
                ExitCode.RUN,
            )
        if not rows:
            return np.empty((0, self._model.rows), np.float32)
        return np.ctypeslib.as_array(llama.llama_get_logits(self._handle), (rows, self._model.rows)).copy()
