"""GGUF files read by transformers: configuration, tokenizer, and what its loader wants to be told."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specbench.atomic import replacing
from specbench.errors import ModelError, first_line
from specbench.models import gguf_files
from specbench.models.library import quiet_transformers

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

SINGLE_DIGITS = ("codeshell", "command-r", "exaone", "minerva-7b", "refact", "smollm", "starcoder")
"""Pre-tokenizers of llama.cpp (`llama-vocab.cpp`) that part digits; transformers loses that."""
IN_LLAMA_CPP = (
    "an edge runs it in llama.cpp: --set edge.backend=llama_cpp; as the target, serve it with llama-server and "
    "name that: --set cloud.backend=openai, or 'specbench verify'"
)


def whole(path: Path, cache: Path) -> Path:
    """The model as one file, for transformers reads no split sets; joined once into the folder `cache`.

    Raises:
        SpecbenchError: a part is missing or damaged, or there is no room for the joined file.
    """
    files = gguf_files.parts(path)
    if len(files) == 1:
        return path
    known = [(part.name, part.stat().st_size, part.stat().st_mtime_ns) for part in files]
    digest = hashlib.sha256(repr(known).encode()).hexdigest()[:12]
    joined = cache / "models" / f"{path.stem}-{digest}{gguf_files.SUFFIX}"
    if not joined.is_file():
        logger.info("joining the %d files of %s into %s (once)", len(files), path.name, joined)
        try:
            joined.parent.mkdir(parents=True, exist_ok=True)
            with replacing(joined) as partial:
                _join(gguf_files.header(path), partial)
        except OSError as error:
            raise ModelError(
                f"the files of {path} cannot be joined in {joined.parent}: {error.strerror or error}",
                "free as much space as they take, or set SPECBENCH_CACHE to another folder",
            ) from error
    return joined


def _join(header: gguf_files.GgufHeader, path: Path) -> None:
    from gguf import GGUFValueType, GGUFWriter

    writer = GGUFWriter(path, header.architecture)
    for name, field in header.readers[0].fields.items():
        if name.startswith(("GGUF.", "split.")) or name == "general.architecture":
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=inner)
    tensors = [tensor for reader in header.readers for tensor in reader.tensors]
    for tensor in tensors:
        data = tensor.data
        writer.add_tensor_info(tensor.name, data.shape, data.dtype, data.nbytes, tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        writer.write_tensor_data(tensor.data)
    writer.close()


def load_config(path: Path) -> PretrainedConfig:
    """The configuration that transformers makes of a file's metadata.

    Raises:
        SpecbenchError: it does not know the architecture, or the metadata lacks something.
    """
    from transformers import AutoConfig

    try:
        with quiet_transformers():
            return AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    except Exception as error:
        raise _unknown(path, "the configuration", error) from error


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer that transformers makes of a file's metadata, digits parted where llama.cpp parts them.

    Raises:
        SpecbenchError: it does not know the architecture or the tokenizer's kind.
    """
    from tokenizers import Tokenizer, pre_tokenizers
    from transformers import AutoTokenizer

    try:
        with quiet_transformers(), tempfile.TemporaryDirectory() as alone:  # files beside it would be preferred
            (Path(alone) / path.name).symlink_to(path.resolve())
            tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file=path.name)
    except Exception as error:
        raise _unknown(path, "the tokenizer", error) from error
    header = gguf_files.header(path)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    own = [token for token in state["added_tokens"] if token["id"] < header.rows]
    if len(own) < len(state["added_tokens"]):  # special tokens that a class of transformers has by default
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps(state | {"added_tokens": own}))
    if header.value("tokenizer.ggml.pre") in SINGLE_DIGITS:
        backend = tokenizer.backend_tokenizer
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer]
        )
    return tokenizer


def loader_arguments(path: Path) -> dict[str, Any]:
    """What `from_pretrained` wants besides a folder: all weights as numbers, whatever they are stored as."""
    import transformers

    arguments: dict[str, Any] = {"gguf_file": path.name}
    if hasattr(transformers, "GgufConfig"):  # 5.24 and later may keep the blocks
        arguments["quantization_config"] = transformers.GgufConfig(dequantize=True)
    return arguments


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """As `quiet_transformers`, and without the progress bar of the GGUF reader, which has no switch."""
    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        yield


def _unknown(path: Path, what: str, error: Exception) -> ModelError:
    named = gguf_files.header(path).architecture
    return ModelError(
        f"transformers cannot read {what} of {path} (architecture {named}): {first_line(error)}", IN_LLAMA_CPP
    )
