"""Where weights come from: what they are stored as, how they are quantised, which adapters lie beside them.

Reads headers and configurations; no weights.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
from pathlib import Path

from specbench.errors import SpecbenchError
from specbench.models import embedded, files, gguf_files
from specbench.models.gguf_files import counted

ADAPTER_CONFIG = "adapter_config.json"
PACKAGES = {
    "aqlm": ("aqlm",),
    "auto-round": ("auto-round",),
    "awq": ("gptqmodel",),
    "bitsandbytes": ("bitsandbytes",),
    "compressed-tensors": ("compressed-tensors",),
    "gptq": ("optimum", "gptqmodel"),
    "hqq": ("hqq",),
    "quanto": ("optimum-quanto",),
    "torchao": ("torchao",),
    "vptq": ("vptq",),
}
"""What transformers needs to read weights of a quantisation format."""


def stored_as(folder: Path) -> tuple[str, ...]:
    """What the weights are kept as on disk, such as `F32 x272`, and what they were before conversion.

    GGUF files tell their quantisation types. Pickled checkpoints (`.bin`) are not opened, for that could run
    code: they are `unknown`, and counted only where there is nothing safer.
    """
    if gguf_files.is_gguf(folder):
        return gguf_files.header(folder).kinds
    weights = [path for path in _safetensors(folder) if not path.name.startswith(files.ADAPTER_PREFIX)]
    described = [*counted(entry["dtype"] for path in weights for entry in files.read_header(path).values())]
    for path in sorted(folder.glob("*.gguf")):
        described += [f"{path.name}: GGUF {kind}" for kind in gguf_files.header(path).kinds]
    if record := embedded.provenance(folder):
        origin = ", ".join(f"{kind} x{count}" for kind, count in sorted(record["stored"].items()))
        described.append(f"converted from GGUF {origin}")
    if not described:
        described += [f"{name}: unknown (pickled, not opened)" for name in pickled(folder)]
    return tuple(described)


def pickled(folder: Path) -> list[str]:
    """Names of weight files that would have to be unpickled to be known."""
    return sorted(path.name for path in folder.glob("*") if path.suffix in files.PICKLED_SUFFIXES)


def conversion(folder: Path) -> str:
    """The shell command that writes a pickled checkpoint as safetensors, in the dtypes that it has.

    torch unpickles tensors alone (`weights_only`), so that the file cannot run code.
    """
    script = (
        "import sys; from transformers import AutoModelForCausalLM as M; "
        "M.from_pretrained(sys.argv[1], dtype='auto').save_pretrained(sys.argv[1])"
    )
    return shlex.join(["python", "-c", script, str(folder)])


def quantization(folder: Path) -> str | None:
    """The quantisation that the checkpoint's configuration names, such as `gptq, 4 bits`."""
    settings = _read(folder / "config.json").get("quantization_config")
    if not isinstance(settings, dict):
        return None
    method = settings.get("quant_method", "unnamed method")
    bits = settings.get("bits") or next((n for n in (4, 8) if settings.get(f"load_in_{n}bit")), None)
    return f"{method}, {bits} bits" if bits else str(method)


def missing_package(error: Exception, folder: Path | None = None) -> str | None:
    """The command that installs what was missing when something failed; `None` where nothing is.

    Args:
        folder: of the model, where its weights were being read.
    """
    settings = _read(folder / "config.json").get("quantization_config") if folder else None
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    missing = [name for name in PACKAGES.get(str(method), ()) if not _is_installed(name)]
    if missing:
        return f"pip install {' '.join(missing)}"
    if isinstance(error, ImportError):
        named = re.search(r"pip install [^`'\"\n)]+", str(error))
        return named[0].strip() if named else "install the package that it names"
    return None


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def adapters(folder: Path) -> tuple[str, ...]:
    """Adapters that lie beside the weights, such as `LORA of rank 8 in adapter_config.json (F32 x4)`."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return ()
    config = _read(folder / ADAPTER_CONFIG)
    rank = f" of rank {config['r']}" if "r" in config else ""
    headers = [files.read_header(path) for path in sorted(folder.glob(f"{files.ADAPTER_PREFIX}*.safetensors"))]
    dtypes = ", ".join(counted(entry["dtype"] for header in headers for entry in header.values()))
    return (f"{config.get('peft_type', 'adapter')}{rank} in {ADAPTER_CONFIG} ({dtypes or 'unknown dtype'})",)


def _safetensors(folder: Path) -> list[Path]:
    try:
        return files.weight_files(folder)
    except SpecbenchError:
        if any(folder.glob("*.safetensors")):
            raise
        return []


def _read(path: Path) -> dict:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
