"""Where a model's files are, and whether they may be loaded: checks that need no weights in memory."""

from __future__ import annotations

import functools
import json
import logging
import re
import struct
from pathlib import Path

from specbench.errors import ModelError
from specbench.models import embedded, gguf_files, shipped
from specbench.profile import EdgeSpec, ModelSpec
from specbench.results.environment import expanded

logger = logging.getLogger(__name__)

DESCRIPTION_PATTERNS = ["*.json", "*.jinja", "*.txt", "*.model", "*.py"]
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json",
)  # fmt: skip
ADAPTER_PREFIX = "adapter_model"
TRUST = "review that code, then set trust_remote_code: true for this model"
PICKLED_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def locate(spec: ModelSpec, weights: bool) -> Path:
    """Where a model lies, fetched first when it is elsewhere: its folder, or its GGUF file.

    Args:
        weights: whether the weights are wanted too, or only configuration and tokenizer.

    Raises:
        SpecbenchError: no such folder, file, hub model or embedded model, or it cannot be read.
    """
    name = spec.model
    if name.startswith(embedded.PREFIX):
        name = name.removeprefix(embedded.PREFIX)
        return shipped.folder_of(name) or embedded.ensure(embedded.lookup(name))
    folder = expanded(name)
    try:
        if folder.is_dir():
            return _within(folder)
        if gguf_files.is_gguf(folder):
            return gguf_files.first_part(folder)
    except OSError as error:
        raise ModelError(
            f"model {name} cannot be read: {error.strerror}", "check its path and permissions"
        ) from error
    if folder.exists() or name.startswith(("/", "./", "../", "~")):
        what = "is a file, and no GGUF file" if folder.exists() else "does not exist"
        raise ModelError(
            f"model folder {name} {what}",
            "a model is embedded:NAME, a folder in Hugging Face format, a GGUF file, or a hub id",
        )
    return _from_hub(spec, weights)


def _within(folder: Path) -> Path:
    """A folder's GGUF model, where its weights are nothing else."""
    holds_others = any(path.suffix in (".safetensors", *PICKLED_SUFFIXES) for path in folder.iterdir())
    return folder if holds_others else gguf_files.in_folder(folder) or folder


def _from_hub(spec: ModelSpec, weights: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [*DESCRIPTION_PATTERNS, "*.safetensors"] if weights else DESCRIPTION_PATTERNS
    if weights:
        logger.info("fetching %s from the hub, unless it is cached", spec.model)
    try:
        return Path(snapshot_download(spec.model, revision=spec.revision, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"model '{spec.model}' is not a local folder and cannot be fetched from the hub: {reason}",
            "check the name and the network, or use a local folder instead",
        ) from error


def check(folder: Path, spec: ModelSpec) -> None:
    """Refuse a folder that is incomplete, or that would run code of its own.

    Raises:
        SpecbenchError: no config, no tokenizer, or remote code that the profile does not allow.
    """
    borrows_tokenizer = isinstance(spec, EdgeSpec) and spec.vocab_map is not None
    if gguf_files.is_gguf(folder):
        if not borrows_tokenizer and not gguf_files.header(folder).value("tokenizer.ggml.tokens"):
            raise ModelError(f"{folder} has no tokenizer", "convert the model again, with its tokenizer")
        return
    if not (folder / "config.json").is_file() and "gguf" in spec.model.lower():
        raise ModelError(
            f"model {spec.model} has no config.json; by its name it holds GGUF files",
            "download one of them, and name that file",
        )
    config = read_json(folder / "config.json")
    if not borrows_tokenizer and not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(
            f"model folder {folder} has no tokenizer",
            "save one next to the weights: tokenizer.save_pretrained(folder)",
        )
    tokenizer_config = folder / "tokenizer_config.json"
    described = [config] + ([read_json(tokenizer_config)] if tokenizer_config.is_file() else [])
    if any("auto_map" in part for part in described) and not spec.trust_remote_code:
        raise ModelError(
            f"model {folder} needs to run its own Python code (auto_map)",
            TRUST,
        )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model, each checked against its own header; or its GGUF files.

    Raises:
        SpecbenchError: there are none, one is missing or cut short, or the weights are pickled.
    """
    if gguf_files.is_gguf(folder):
        gguf_files.header(folder)
        return gguf_files.parts(folder)
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(read_json(index).get("weight_map", {}).values()))
        files = [folder / name for name in names] + sorted(folder.glob(f"{ADAPTER_PREFIX}*.safetensors"))
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = [path.name for path in folder.iterdir() if path.suffix in PICKLED_SUFFIXES]
        if pickled:
            raise ModelError(
                f"model {folder} holds pickled weights ({pickled[0]}), which can run code when loaded",
                "convert them: model.save_pretrained(folder) writes safetensors",
            )
        raise ModelError(
            f"model {folder} has no weights (*.safetensors)", "write one with model.save_pretrained"
        )
    for path in files:
        read_header(path)
    return files


@functools.cache
def read_header(path: Path) -> dict[str, dict]:
    """Tensor descriptions of a safetensors file: dtype, shape, data_offsets by tensor name.

    Raises:
        SpecbenchError: the file is missing, cut short, or not safetensors.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = struct.unpack("<Q", file.read(8))[0]
            if length > size:
                raise ValueError("its header is cut off")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if size != end:
            raise ValueError(f"it has {size} bytes and should have {end}")
    except FileNotFoundError as error:
        raise ModelError(f"weights file {path} is missing", "copy or fetch the model again") from error
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"weights file {path} is damaged: {error}", "copy or fetch the model again") from error
    return header


@functools.cache
def fingerprint(folder: Path) -> dict[str, str]:
    """SHA-256 of configuration, tokenizer and weights, by file name.

    The hub's cache names its large files by their SHA-256, which is taken as it is.
    """
    names = {
        "config.json", "generation_config.json", "tokenizer_config.json", "chat_template.jinja",
        "adapter_config.json",
    }  # fmt: skip
    files = [path for path in sorted(folder.glob("*")) if path.name in names | set(TOKENIZER_FILES)]
    return {path.name: _sha256(path) for path in [*files, *weight_files(folder)]}


def _sha256(path: Path) -> str:
    blob = path.resolve()
    if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return blob.name
    return embedded.sha256_of(path)


def read_json(path: Path) -> dict:
    """The object in a JSON file of a model.

    Raises:
        SpecbenchError: there is no such file, or it holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"model folder {path.parent} has no {path.name}", "write one with model.save_pretrained"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}", "copy or fetch the model again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} is not a JSON object", "copy or fetch the model again")
    return value
