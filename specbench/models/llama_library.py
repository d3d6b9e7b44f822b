"""llama.cpp through llama-cpp-python: the library, its log, and models opened with it."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import logging
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specbench.errors import ModelError, first_line
from specbench.models import gguf_files

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

INSTALL = "pip install 'specbench[llama-cpp]' (it compiles llama.cpp, which takes some minutes)"
ERROR_LEVEL = 4
"""`GGML_LOG_LEVEL_ERROR` of ggml.h."""
_errors: deque[str] = deque(maxlen=20)


def is_installed() -> bool:
    """Whether there is a llama-cpp-python to be loaded."""
    return importlib.util.find_spec("llama_cpp") is not None


@functools.cache
def library() -> Any:
    """The module `llama_cpp`, its log kept off the terminal.

    Raises:
        SpecbenchError: it is not installed, or its libraries cannot be loaded.
    """
    try:
        import llama_cpp
    except ModuleNotFoundError as error:
        raise ModelError(f"edge.backend: llama_cpp needs llama-cpp-python: {error}", INSTALL) from error
    except Exception as error:  # a library that was built for another machine
        raise ModelError(f"llama-cpp-python cannot be loaded: {first_line(error)}", INSTALL) from error
    llama_cpp.llama_log_set(_listener(), ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return llama_cpp


@functools.cache
def _listener() -> Any:
    """What llama.cpp calls with each line of its log; it must outlive the library."""
    import llama_cpp

    def listen(level: int, text: bytes, user_data: object) -> None:
        line = text.decode("utf-8", errors="replace").strip()
        if level == ERROR_LEVEL and line:
            _errors.append(line)
        if line:
            logger.debug("llama.cpp: %s", line)

    return llama_cpp.llama_log_callback(listen)


def last_error() -> str:
    """What llama.cpp's log said last of an error."""
    return _errors[-1] if _errors else "it gives no reason"


class LlamaModel:
    """A GGUF model in llama.cpp, freed with the object.

    Args:
        path: of the file, or of the first one of a split set.
        vocabulary_only: leave the weights on the disk.

    Raises:
        SpecbenchError: llama.cpp is not installed, or does not read this file.
    """

    def __init__(self, path: Path, vocabulary_only: bool = False) -> None:
        self.library = llama = library()
        _errors.clear()
        params = llama.llama_model_default_params()
        params.n_gpu_layers = 0
        params.vocab_only = vocabulary_only
        self.handle = llama.llama_model_load_from_file(str(path).encode(), params)
        if not self.handle:
            raise ModelError(
                f"llama.cpp cannot load {path}: {last_error()}",
                "copy or download the file again, or install a newer llama-cpp-python",
            )
        weakref.finalize(self, llama.llama_model_free, self.handle)
        self.named = path.name
        self._vocabulary = llama.llama_model_get_vocab(self.handle)
        self.rows = llama.llama_vocab_n_tokens(self._vocabulary)

    @property
    def keeps_state(self) -> bool:
        """Whether layers are recurrent, so that nothing can be taken back."""
        model, llama = self.handle, self.library
        return bool(llama.llama_model_is_recurrent(model) or llama.llama_model_is_hybrid(model))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without what begins or ends one; special tokens are read as such."""
        data = text.encode()
        most = len(data) + 8
        ids = (self.library.llama_token * most)()
        count = self.library.llama_tokenize(self._vocabulary, data, len(data), ids, most, False, True)
        if count < 0:
            raise ValueError(f"llama.cpp needs room for {-count} tokens of {len(data)} bytes")
        return list(ids[:count])

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens written out."""
        ids = (self.library.llama_token * len(token_ids))(*token_ids)
        size = 64 + 16 * len(token_ids)
        while True:
            text = ctypes.create_string_buffer(size)
            written = self.library.llama_detokenize(
                self._vocabulary, ids, len(token_ids), text, size, False, True
            )
            if written >= 0:
                return text.raw[:written].decode("utf-8", errors="replace")
            size = -written


class LlamaTokenizer:
    """llama.cpp's own tokenizer of a GGUF file, with the members of transformers' that a draft needs."""

    eos_token_id = None
    chat_template = None

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = gguf_files.header(path).vocabulary()

    @functools.cached_property
    def _model(self) -> LlamaModel:
        return LlamaModel(self._path, vocabulary_only=True)

    @functools.cached_property
    def _names(self) -> dict[int, str]:
        return {index: token for token, index in self._known.items()}

    def get_vocab(self) -> dict[str, int]:
        """Ids by token, without those that fill the vocabulary up."""
        return self._known

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Token ids of a text; none are put before or behind it."""
        return self._model.encode(text)

    def tokenize(self, text: str) -> list[str]:
        """The tokens of a text as the vocabulary writes them."""
        return [self._names[token] for token in self._model.encode(text)]

    def decode(self, token_ids: Sequence[int], **_: object) -> str:
        """The text of token ids."""
        return self._model.decode(token_ids)


@dataclass(frozen=True)
class LoadedGguf:
    """A GGUF model in llama.cpp, ready to decode.

    Args:
        folder: the model's file, or the first one of a split set.
        dtype: of the cache.
    """

    model: LlamaModel
    folder: Path
    device: torch.device
    dtype: torch.dtype
    threads: int

    @property
    def header(self) -> gguf_files.GgufHeader:
        """What the file says of itself."""
        return gguf_files.header(self.folder)

    @property
    def flash_attention(self) -> str:
        """`off` for a cache in float32, which llama.cpp's flash attention would read as float16."""
        return "off" if str(self.dtype) == "torch.float32" else "auto"


SAMPLES = (
    "Hello, world! It's 5 o'clock.",
    "In 2024 there were 12,345.67 of 1000000.",
    "  two spaces\n\n\tand a tab ",
    "def f(x):\n    return x ** 2  # square\n",
    "Grüße aus Köln, 東京 и Москва 🙂",
    "we'll, I'VE, they're: naïve café",
    "<html>&amp;{\"a\": [1, 2]}\r\n",
)  # fmt: skip


def tokenizer_remark(path: Path, tokenizer: Any) -> str | None:
    """How transformers' tokenizer of a GGUF file compares with llama.cpp's; `None` for other files.

    Raises:
        SpecbenchError: llama.cpp does not read the file.
    """
    if not gguf_files.is_gguf(path):
        return None
    if not is_installed():
        return (
            f"the tokenizer that transformers makes of {path.name} is not compared with llama.cpp's: "
            f"llama-cpp-python is not installed ({INSTALL})"
        )
    texts = split_otherwise(path, tokenizer)
    if not texts:
        return f"the tokenizer of {path.name} splits {len(SAMPLES)} sample texts as llama.cpp does"
    return (
        f"the tokenizer that transformers makes of {path.name} splits {len(texts)} sample texts otherwise than "
        f"llama.cpp, the first is {texts[0]!r}: prompts reach the model in other tokens than in llama.cpp"
    )


def split_otherwise(path: Path, tokenizer: Any) -> list[str]:
    """Sample texts, and the file's special tokens, that a tokenizer splits otherwise than llama.cpp does.

    Args:
        tokenizer: transformers'.

    Raises:
        SpecbenchError: llama.cpp is not installed, or does not read the file.
    """
    model = LlamaModel(path, vocabulary_only=True)
    ends = [str(tokenizer.convert_ids_to_tokens(token)) for token in gguf_files.header(path).stop_ids]
    texts = [*SAMPLES, *(f"{SAMPLES[0]}{end}\n" for end in sorted(ends))]
    return [text for text in texts if tokenizer.encode(text, add_special_tokens=False) != model.encode(text)]
