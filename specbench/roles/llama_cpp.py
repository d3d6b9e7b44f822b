"""A model that may run in llama.cpp, where its GGUF file stands for a configuration."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from specbench.errors import ModelError
from specbench.models import gguf_files
from specbench.profile import EdgeSpec
from specbench.roles.role import ModelFactory

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from specbench.engine.base import Engine
    from specbench.engine.compiled.engine import CompiledEngine
    from specbench.engine.llama_cpp import LlamaCppEngine
    from specbench.models.memory import MemoryEstimate
    from specbench.results.records import Audit

logger = logging.getLogger(__name__)


class MaybeInLlamaCpp(ModelFactory):
    """A model that runs in llama.cpp where its spec says `backend: llama_cpp`, else as every model does."""

    spec: EdgeSpec

    @property
    def in_llama_cpp(self) -> bool:
        """Whether llama.cpp runs it, and neither torch nor transformers has a part in it."""
        return self.spec.backend == "llama_cpp"

    @property
    def _gguf(self) -> Path:
        if not gguf_files.is_gguf(self.folder):
            raise ModelError(
                f"edge.backend: llama_cpp runs GGUF files, and {self.spec.model} is none",
                "convert it with llama.cpp's convert_hf_to_gguf.py, or add --set edge.backend=transformers",
            )
        return self.folder

    @property
    def _header(self) -> gguf_files.GgufHeader:
        return gguf_files.header(self._gguf)

    @cached_property
    def config(self) -> PretrainedConfig:
        """The model's configuration, cut to the layers of the spec; what a GGUF file says for llama.cpp."""
        if not self.in_llama_cpp:
            return super().config
        from transformers import PretrainedConfig

        return PretrainedConfig.from_dict(
            {
                "vocab_size": self._header.rows,
                "max_position_embeddings": self._header.own("context_length"),
                "num_hidden_layers": self._header.own("block_count"),
            }
        )

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that lies beside the weights; for llama.cpp its own one, of what the GGUF file says."""
        if not self.in_llama_cpp:
            return super().tokenizer
        from specbench.models import files
        from specbench.models.llama_library import LlamaTokenizer

        files.check(self._gguf, self.spec)
        return cast("PreTrainedTokenizerBase", LlamaTokenizer(self._gguf))

    @property
    def held_as(self) -> str:
        """What most of its weights are held as."""
        return "a GGUF file's own types" if self.in_llama_cpp else super().held_as

    def memory_estimate(self, context_tokens: int) -> MemoryEstimate:
        """What the model will take with a cache of so many tokens; reads no weights."""
        if not self.in_llama_cpp:
            return super().memory_estimate(context_tokens)
        from specbench.models.memory import DTYPE_BYTES, MemoryEstimate

        weights = sum(tensor.nbytes for tensor in self._header.tensors)
        cache = self._header.cached_numbers * DTYPE_BYTES[self.dtype] * context_tokens
        return MemoryEstimate(weights, cache)

    def begin(self) -> CompiledEngine | None:
        """As of every role; llama.cpp has no program to make."""
        return None if self.in_llama_cpp else super().begin()

    def _loaded_engine(self) -> Engine:
        if not self.in_llama_cpp:
            return super()._loaded_engine()
        import torch

        from specbench.engine.llama_cpp import LlamaCppEngine
        from specbench.models import vocabulary
        from specbench.models.llama_library import LlamaModel, LoadedGguf

        kinds = ", ".join(self._header.kinds)
        logger.info("loading the %s model %s (%s) in llama.cpp", self.role, self.spec.model, kinds)
        loaded = LoadedGguf(
            LlamaModel(self._gguf),
            self._gguf,
            torch.device("cpu"),
            getattr(torch, self.dtype),
            self.spec.threads or torch.get_num_threads(),
        )
        own = self.draft_vocabulary
        size = own.target_size if own else vocabulary.size(self.tokenizer)
        engine = LlamaCppEngine(loaded, size, own)
        engine.role = self.role
        self._demand_steps(engine)
        return engine

    def audit(self) -> Audit:
        """What precision the loaded model really has."""
        if not self.in_llama_cpp:
            return super().audit()
        from specbench.precision import audit_llama_cpp

        return audit_llama_cpp(self.role, self.spec.model, cast("LlamaCppEngine", self.engine))
