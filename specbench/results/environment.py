"""The machine and the versions that numbers depend on, on the edge and in the cloud; paths, encodings."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

from specbench.errors import SpecbenchError

LIBRARIES = ("specbench", "torch", "transformers", "tokenizers", "accelerate", "safetensors")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that the numbers depend on."""
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in LIBRARIES
    }


def machine() -> dict[str, str | int | None]:
    """The machine: processor, cores, memory, system, and its CUDA device if it has one."""
    import psutil
    import torch

    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
        "cuda": cuda,
        "cuda_devices": torch.cuda.device_count(),
    }


def expanded(path: str | Path) -> Path:
    """A path with its `~` replaced by the home directory.

    Raises:
        SpecbenchError: there is no such home directory.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise SpecbenchError(
            f"{path} names a home directory that is unknown", "write the whole path"
        ) from error


def is_encodable(text: str) -> bool:
    """Whether a text is made of characters; halves of one, such as a lone \\ud83d, cannot be stored or sent."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def encodable(text: str) -> str:
    """The text, with what is not a character escaped."""
    return text.encode(errors="backslashreplace").decode()


def _cpu_name(root: Path = Path("/")) -> str:
    """As Linux names it; on ARM, where Linux knows numbers alone, the board's name and these."""
    lines = [line.partition(":") for line in _text(root / "proc/cpuinfo").splitlines()]
    known = {key.strip(): value.strip() for key, _, value in reversed(lines)}
    if name := known.get("model name"):
        return name
    numbers = [f"{key} {known[key]}" for key in ("CPU implementer", "CPU part") if key in known]
    named = filter(None, (_text(root / "proc/device-tree/model").rstrip("\0"), *numbers))
    return ", ".join(named) or platform.processor() or "unknown"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
