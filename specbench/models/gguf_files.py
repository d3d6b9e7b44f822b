"""GGUF files: recognised and named, with the command that converts them."""

from __future__ import annotations

import shlex
from pathlib import Path

from specbench.errors import ModelError

SUFFIX, MAGIC = ".gguf", b"GGUF"


def demand_none(place: Path, name: str) -> None:
    """Refuse a GGUF file, or a folder that has one.

    Args:
        name: of the model, as the profile calls it.

    Raises:
        SpecbenchError: with the command that converts it.
    """
    if place.is_file():
        with place.open("rb") as file:
            found = [place] if file.read(len(MAGIC)) == MAGIC else []
    else:
        found = sorted(path for path in place.iterdir() if path.suffix.lower() == SUFFIX)
    if found:
        raise ModelError(
            f"model {name} is in GGUF format ({found[0].name}), and specbench reads safetensors",
            f"convert it with transformers: {conversion(found[0])} (writes the folder {_converted(found[0])})",
        )


def conversion(path: Path) -> str:
    """The shell command that writes a GGUF file as a folder with safetensors and a tokenizer, in float32."""
    script = (
        "import sys; from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; "
        "folder, file, out = sys.argv[1:]; "
        "m = M.from_pretrained(folder, gguf_file=file); m.hf_quantizer = None; "  # else it refuses to be saved
        "vars(m.config).pop('quantization_config', None); m.save_pretrained(out); "
        "T.from_pretrained(folder, gguf_file=file).save_pretrained(out)"
    )
    return shlex.join(["python", "-c", script, str(path.parent), path.name, str(_converted(path))])


def _converted(path: Path) -> Path:
    return path.with_name(f"{path.stem}-safetensors")
