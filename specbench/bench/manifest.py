"""What a run depends on, written down: settings, versions, machine; and what differs between two runs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

from specbench.records import Manifest

INCIDENTAL = ("machine.memory_bytes",)  # differs by a few pages between boots of one machine
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


def differences(
    left: Manifest, right: Manifest, ignoring: Sequence[str] = ()
) -> Iterator[tuple[str, object, object]]:
    """Every setting in which two runs differ: its name, the left value, the right value.

    Args:
        ignoring: settings, or whole parts of the profile, in which they may.
    """
    for part in ("profile", "versions", "machine", "models"):
        prefix = "" if part == "profile" else part
        ours, theirs = dict(_flat(getattr(left, part), prefix)), dict(_flat(getattr(right, part), prefix))
        for key in [*ours, *(key for key in theirs if key not in ours)]:
            skipped = key in ignoring or key.partition(".")[0] in ignoring or key in INCIDENTAL
            if not skipped and ours.get(key) != theirs.get(key):
                yield key, ours.get(key), theirs.get(key)
    if left.threads != right.threads:
        yield "threads", left.threads, right.threads
    if left.prompts_sha256 != right.prompts_sha256:
        yield "prompts", f"{len(left.prompt_ids)} prompts", f"{len(right.prompt_ids)} others"


def _flat(value: dict, prefix: str) -> Iterator[tuple[str, object]]:
    for key, item in value.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(item, dict):
            yield from _flat(item, name)
        else:
            yield name, item


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
