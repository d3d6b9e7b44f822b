"""Which code a method is made of: a name without its folder, a version, and a hash of the source."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from specbench.results.provenance import MethodSource

SUFFIXES = (".py", ".cpp", ".h", ".cu")


def source_of(name: str, version: str, module: ModuleType | None) -> MethodSource:
    """What a plugin's code is now.

    Args:
        name: of the distribution, or of the file.
        module: where its hook lies. Of a module in a package, the whole package is the source: a method may
            use all of it.
    """
    try:
        files = dict(_files(module)) if module else {}
        digest = hashlib.sha256()
        for path in sorted(files):
            digest.update(f"{path}\n".encode() + hashlib.sha256(files[path].read_bytes()).digest())
    except OSError:
        files = {}
    return MethodSource(name, version, digest.hexdigest() if files else None)


def _files(module: ModuleType) -> Iterator[tuple[str, Path]]:
    """Every source file, by its path from the top of its package."""
    if not module.__package__:
        if module.__file__:
            yield Path(module.__file__).name, Path(module.__file__)
        return
    # A part of a package may be installed elsewhere than the rest, as ours are from a checkout.
    for package in (module.__package__.partition(".")[0], module.__package__):
        for folder in map(Path, sys.modules[package].__path__):
            for path in folder.rglob("*"):
                if path.suffix in SUFFIXES:
                    yield f"{package.replace('.', '/')}/{path.relative_to(folder).as_posix()}", path
