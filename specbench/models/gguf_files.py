"""GGUF files: found, told from others, and what their headers say; no weights are read."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specbench.errors import ModelError, first_line

if TYPE_CHECKING:
    from gguf import GGUFReader

SUFFIX, MAGIC = ".gguf", b"GGUF"
PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
NO_TEXT_MODEL = ("mmproj", "imatrix")  # what lies beside a model, as llama.cpp's tools name it
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
UNUSED = 5
"""The type of tokens that fill a vocabulary up (`LLAMA_TOKEN_TYPE_UNUSED` of llama.h)."""


def is_gguf(place: Path) -> bool:
    """Whether `place` is a file in GGUF format."""
    if not place.is_file():
        return False
    with place.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def in_folder(folder: Path) -> Path | None:
    """The one model that a folder holds as GGUF: its file, or the first file of a split set.

    Raises:
        SpecbenchError: it holds several.
    """
    files = [path for path in folder.iterdir() if path.suffix.lower() == SUFFIX]
    models = sorted({first_part(path) for path in files if not path.name.lower().startswith(NO_TEXT_MODEL)})
    if len(models) > 1:
        raise ModelError(
            f"model folder {folder} holds {len(models)} GGUF models: {', '.join(path.name for path in models)}",
            f"name one of them, such as {models[0]}",
        )
    return models[0] if models else None


def first_part(path: Path) -> Path:
    """The first file of the split set that `path` belongs to; `path` itself where it is whole."""
    named = PART.fullmatch(path.name)
    return path.with_name(f"{named['stem']}-00001-of-{named['count']}{path.suffix}") if named else path


def parts(path: Path) -> list[Path]:
    """All files of a model, the first one first.

    Raises:
        SpecbenchError: one of a split set is missing.
    """
    named = PART.fullmatch(path.name)
    if named is None:
        return [path]
    count = int(named["count"])
    found = [
        path.with_name(f"{named['stem']}-{number:05}-of-{count:05}{path.suffix}")
        for number in range(1, count + 1)
    ]
    for part in found:
        if not part.is_file():
            raise ModelError(
                f"model {path} is split into {count} files, and {part.name} is missing",
                f"copy all of them into {path.parent}",
            )
    return found


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a file keeps it.

    Args:
        kind: its type, such as `F32` or `Q4_K`.
        shape: as torch has it, rows first.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True)
class GgufHeader:
    """What the header of a GGUF model says.

    Args:
        readers: of its files, the first one with the metadata.
    """

    readers: tuple[GGUFReader, ...]
    tensors: tuple[StoredTensor, ...]

    def value(self, key: str, default: object = None) -> Any:
        """A value of the metadata."""
        field = self.readers[0].fields.get(key)
        return default if field is None else field.contents()

    def own(self, key: str, default: object = None) -> Any:
        """A value that belongs to the architecture, such as `context_length`."""
        return self.value(f"{self.architecture}.{key}", default)

    @property
    def architecture(self) -> str:
        """As llama.cpp names it."""
        return str(self.value("general.architecture", "of no name"))

    @property
    def kinds(self) -> tuple[str, ...]:
        """Types with their counts, such as `Q4_K x24`."""
        return counted(tensor.kind for tensor in self.tensors)

    @property
    def quantized(self) -> tuple[StoredTensor, ...]:
        """Tensors that hold blocks of narrow integers and not numbers."""
        return tuple(tensor for tensor in self.tensors if tensor.kind not in FLOATS)

    @property
    def rows(self) -> int:
        """Tokens that the model has an output for."""
        by_name = {tensor.name: tensor for tensor in self.tensors}
        head = by_name.get("output.weight") or by_name.get("token_embd.weight")
        return head.shape[0] if head else int(self.own("vocab_size", 0))

    @property
    def weight_bytes(self) -> int | None:
        """Bytes of weights that one token must read: of experts, which lie side by side, as many as it chooses.

        `None` where the file does not say how many those are.
        """
        count, chosen = self.own("expert_count", 0), self.own("expert_used_count", 0)
        if count and not chosen:
            return None
        is_tied = all(tensor.name != "output.weight" for tensor in self.tensors)
        read = [tensor for tensor in self.tensors if is_tied or tensor.name != "token_embd.weight"]
        whole = sum(tensor.nbytes for tensor in read)
        experts = sum(tensor.nbytes for tensor in read if "_exps." in tensor.name)
        return whole - experts + experts * chosen // count if count else whole

    @property
    def cached_numbers(self) -> int:
        """Numbers that the cache keeps of one token, keys and values of all layers."""
        heads = self.own("attention.head_count", 0)
        key_heads = self.own("attention.head_count_kv", heads)
        layers = int(self.own("block_count", 0))
        all_heads = sum(key_heads) if isinstance(key_heads, list) else int(key_heads) * layers
        most = max(heads) if isinstance(heads, list) else int(heads)
        size = int(self.own("embedding_length", 0)) // max(most, 1)
        return all_heads * int(
            self.own("attention.key_length", size) + self.own("attention.value_length", size)
        )

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end a text, a turn or a message."""
        named = (self.value(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom"))
        return frozenset(int(token) for token in named if token is not None)

    def vocabulary(self) -> dict[str, int]:
        """Ids by token, without those that only fill the vocabulary up.

        Raises:
            SpecbenchError: not every token has a type.
        """
        tokens = self.value("tokenizer.ggml.tokens", [])
        types = self.value("tokenizer.ggml.token_type") or [0] * len(tokens)
        if len(types) < len(tokens):
            name = self.readers[0].data.filename
            raise ModelError(
                f"{name} has {len(tokens)} tokens and the types of {len(types)}",
                "convert the model again, with its tokenizer",
            )
        if self.value("tokenizer.ggml.model") == "llama":  # as SentencePiece writes spaces
            tokens = ["\u2581" * len(token) if token and not token.strip(" ") else token for token in tokens]
        return {token: index for index, token in enumerate(tokens) if types[index] != UNUSED}


@functools.cache
def header(path: Path) -> GgufHeader:
    """The header of a model; it maps the files and reads no weights.

    Raises:
        SpecbenchError: a file is missing, cut short, or holds what the `gguf` package does not know.
    """
    from gguf import GGUFReader

    readers: list[GGUFReader] = []
    for part in parts(path):
        try:
            readers.append(GGUFReader(part))
        except Exception as error:  # numpy and the reader raise whatever a damaged file leads to
            raise ModelError(
                f"{part} is no GGUF file that can be read: {first_line(error)}",
                "copy or download the file again, or install a newer 'gguf' package",
            ) from error
    tensors = [
        StoredTensor(
            tensor.name, tensor.tensor_type.name, tuple(map(int, reversed(tensor.shape))), int(tensor.n_bytes)
        )
        for reader in readers
        for tensor in reader.tensors
    ]
    if not tensors:
        raise ModelError(f"{path} holds no weights, only a vocabulary", "name a file that holds a model")
    return GgufHeader(tuple(readers), tuple(tensors))


def counted(names: Iterable[str]) -> tuple[str, ...]:
    """Names with their counts, such as `F32 x272`."""
    return tuple(f"{name} x{count}" for name, count in sorted(Counter(names).items()))


def numbers_in(tensor: StoredTensor) -> int:
    """How many numbers a tensor stands for."""
    return math.prod(tensor.shape)
