"""Compiled programs and kernel choices on disk: where they lie, and which of them stay."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

from specbench.models.embedded import cache_folder

KEPT = 100  # programs and choices of kernels; a program takes about 4 MB
SCRATCH_PREFIX, SCRATCH_LIFETIME_S = ".compiling-", 3600


def program_folder() -> Path:
    """Where programs and choices of kernels are kept."""
    return cache_folder() / "compiled"


def mark_used(path: Path) -> None:
    """Keep a file of the cache from being taken for a stale one."""
    with contextlib.suppress(OSError):  # a cache that others own is not ours to tidy
        path.touch()


def tidy(folder: Path) -> None:
    """Delete all but the programs and choices that were used last, and what killed compilations left behind."""
    files = [*folder.glob("*.pt2"), *folder.glob("*.kernels.json")]
    for stale in sorted(files, key=_used_at, reverse=True)[KEPT:]:
        stale.with_suffix(".constants").unlink(missing_ok=True)
        stale.unlink(missing_ok=True)
    for scratch in folder.glob(f"{SCRATCH_PREFIX}*"):
        if time.time() - _used_at(scratch) > SCRATCH_LIFETIME_S:
            shutil.rmtree(scratch, ignore_errors=True)


def _used_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process has just tidied it away
        return 0.0
