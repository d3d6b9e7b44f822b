"""A draft in llama.cpp: what its GGUF file says in place of a configuration, and how it is loaded."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from specbench.errors import ModelError
from specbench.models import gguf_files
from specbench.profile import EdgeSpec

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from specbench.models.llama_library import LlamaTokenizer, LoadedGguf
    from specbench.models.memory import MemoryEstimate

logger = logging.getLogger(__name__)


def demand_gguf(folder: Path, spec: EdgeSpec) -> None:
    """Refuse what llama.cpp does not read.

    Raises:
        SpecbenchError: the model is no GGUF file.
    """
    if not gguf_files.is_gguf(folder):
        raise ModelError(
            f"edge.backend: llama_cpp runs GGUF files, and {spec.model} is none",
            "convert it with llama.cpp's convert_hf_to_gguf.py, or add --set edge.backend=transformers",
        )


def config_of(folder: Path) -> PretrainedConfig:
    """What is asked of a configuration: size of the vocabulary, and context."""
    from transformers import PretrainedConfig

    header = gguf_files.header(folder)
    return PretrainedConfig.from_dict(
        {
            "vocab_size": header.rows,
            "max_position_embeddings": header.own("context_length"),
            "num_hidden_layers": header.own("block_count"),
        }
    )


def tokenizer_of(folder: Path, spec: EdgeSpec) -> LlamaTokenizer:
    """llama.cpp's own tokenizer of the file.

    Raises:
        SpecbenchError: the file has none.
    """
    from specbench.models import files
    from specbench.models.llama_library import LlamaTokenizer

    files.check(folder, spec)
    return LlamaTokenizer(folder)


def memory_estimate(folder: Path, dtype: str, context_tokens: int) -> MemoryEstimate:
    """The file's tensors, and a cache of so many tokens."""
    from specbench.models.memory import DTYPE_BYTES, MemoryEstimate

    header = gguf_files.header(folder)
    weights = sum(tensor.nbytes for tensor in header.tensors)
    return MemoryEstimate(weights, header.cached_numbers * DTYPE_BYTES[dtype] * context_tokens)


def load(folder: Path, spec: EdgeSpec) -> LoadedGguf:
    """The model in llama.cpp, with as many threads as torch has.

    Raises:
        SpecbenchError: llama.cpp is not installed, or does not know the architecture.
    """
    import torch

    from specbench.models.llama_library import LlamaModel, LoadedGguf

    kinds = ", ".join(gguf_files.header(folder).kinds)
    logger.info("loading the edge model %s (%s) in llama.cpp", spec.model, kinds)
    return LoadedGguf(
        LlamaModel(folder),
        folder,
        torch.device("cpu"),
        getattr(torch, spec.dtype),
        spec.threads or torch.get_num_threads(),
    )
