"""Compiles the kernels for the processor at hand, once; afterwards they come from the cache."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from specbench.errors import ExitCode, SpecbenchError
from specbench.models.confinement import lifted
from specbench.models.embedded import cache_folder

if TYPE_CHECKING:
    from torch._ops import _OpNamespace

SOURCES = (
    "ops.cpp",
    "attention.cpp",
    "packed.cpp",
    "experts.cpp",
    "slots.cpp",
    "program.cpp",
    "alibi.h",
    "attention.h",
    "exponential.h",
    "within.h",
    "linear.h",
    "vectors.h",
    "shares.h",
    "team.h",
)
FLAGS = ("-O3", "-fopenmp", "-std=c++20", "-fPIC")
# On ARM, Clang has only learnt of late what -march=native is.
NATIVE = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
LINKING = ("-shared", "-Wl,--as-needed")
# GCC's tuning for Zen and Alder Lake leaves a sum alone unfused and fuses several beside each other, so that a
# row would have other bits alone than in company.
GCC_FLAGS = ("--param=avoid-fma-max-bits=0",)
COMPILERS = ("g++", "clang++", "c++")


def load() -> _OpNamespace:
    """Make the operators known to torch; compiles them when this machine has not done so before.

    Returns:
        `torch.ops.specbench`.

    Raises:
        SpecbenchError: there is no C++ compiler, or it fails, or what it made cannot be kept or loaded.
    """
    if not hasattr(torch.ops.specbench, "linear"):
        try:
            # Programs compiled ahead of time call the kernels by their C names, without the dispatcher.
            ctypes.CDLL(str(library()), ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise SpecbenchError(
                f"the kernels cannot be loaded: {error}",
                f"delete {cache_folder() / 'kernels'}, or set SPECBENCH_CACHE to another folder; "
                "'engine.kind: eager' with models that are not quantised needs none",
                ExitCode.RUN,
            ) from error
        for name in ("linear", "linear_int8", "linear_int4"):
            torch.library.register_fake(f"specbench::{name}", _shape_only)
        torch.library.register_fake("specbench::products", _side_by_side)
        torch.library.register_fake("specbench::stored", torch.empty_like)
        torch.library.register_fake("specbench::experts", _chosen_shape)
        for name in ("experts_int8", "experts_int4"):
            torch.library.register_fake(f"specbench::{name}", _chosen_rows)
        for name in ("attend", "attend_within", "attend_packed", "attend_packed_within"):
            torch.library.register_fake(f"specbench::{name}", _attended_shape)
    return torch.ops.specbench


def _shape_only(x: torch.Tensor, weight: torch.Tensor, *scales: torch.Tensor) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _side_by_side(x: torch.Tensor, weights: list[torch.Tensor], *others: object) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], sum(weight.shape[0] for weight in weights)))


def _chosen_shape(
    x: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor, transposed: int
) -> torch.Tensor:
    return x.new_empty((chosen.shape[0] * chosen.shape[1], weights.shape[2 if transposed else 1]))


def _chosen_rows(
    x: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor, *scales: torch.Tensor
) -> torch.Tensor:
    return _chosen_shape(x, chosen, weights, 0)


def _attended_shape(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *rest: object
) -> torch.Tensor:
    return query.new_empty((1, query.shape[2], query.shape[1], values.shape[3]))


def library() -> Path:
    """The compiled library, named after everything that it depends on."""
    compiler = _compiler()
    version = _version(compiler)
    flags = (*FLAGS, NATIVE, *(GCC_FLAGS if _is_gcc(compiler) else ()))
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for part in (torch.__version__, compiler, version, processor(), *flags, *LINKING):
        digest.update(f"{part}\n".encode())
    for source in SOURCES:
        digest.update((folder / source).read_bytes())
    library = cache_folder() / "kernels" / f"{digest.hexdigest()[:16]}.so"
    if not library.is_file():
        sources = [folder / name for name in SOURCES if name.endswith(".cpp")]
        _compile([compiler, *flags], sources, library)
    return library


def _compiler() -> str:
    chosen = os.environ.get("CXX")
    for name in [chosen] if chosen else COMPILERS:
        if path := shutil.which(name):
            return path
    raise SpecbenchError(
        f"no C++ compiler found ({chosen or ', '.join(COMPILERS)}), and the kernels need one",
        "install g++ or clang++ (apt-get install g++), or name one in CXX; 'engine.kind: eager' with "
        "models that are not quantised needs none",
        ExitCode.RUN,
    )


def _version(compiler: str) -> str:
    return subprocess.run([compiler, "--version"], capture_output=True, errors="replace", check=False).stdout


def _is_gcc(compiler: str) -> bool:
    return "Free Software Foundation" in _version(compiler)


def processor() -> str:
    """What `NATIVE` depends on: the model and the instructions of this processor."""
    lines = (
        Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    )
    known = {line.partition(":")[0].strip(): line for line in reversed(lines)}
    keys = ("model", "model name", "flags", "Features", "CPU implementer", "CPU part")
    named = [known[key] for key in keys if key in known]
    return "\n".join(named) or f"{platform.machine()} {platform.processor()}"


def _compile(command: list[str], sources: list[Path], library: Path) -> None:
    root = Path(torch.__file__).parent
    library.parent.mkdir(parents=True, exist_ok=True)
    includes = [str(root / "include"), str(root / "include" / "torch" / "csrc" / "api" / "include")]
    # torch's own OpenMP library, when it brings one: two of them would fight over the cores.
    openmp = [str(path) for path in sorted((root / "lib").glob("libgomp*.so*"))]
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=".compiling-") as scratch:
        objects = [Path(scratch) / f"{source.stem}.o" for source in sources]
        search = [part for folder in includes for part in ("-I", folder)]
        _demand_all(
            [*command, *search, "-c", str(source), "-o", str(made)]
            for source, made in zip(sources, objects, strict=True)
        )
        partial = Path(scratch) / library.name
        libraries = ["-L", str(root / "lib"), "-ltorch_cpu", "-lc10", *openmp]
        _demand_all([[*command, *LINKING, *map(str, objects), "-o", str(partial), *libraries]])
        partial.replace(library)


def _demand_all(commands: Iterable[list[str]]) -> None:
    """Run commands beside each other, outside of what confines the edge.

    Raises:
        SpecbenchError: the first that failed, and what it said.
    """
    with lifted():
        running = [
            (command, subprocess.Popen(command, stderr=subprocess.PIPE, errors="replace"))
            for command in commands
        ]
    ended = [(command, process.communicate()[1], process.returncode) for command, process in running]
    for command, text, code in ended:
        if code:
            reason = next((line for line in text.splitlines() if "error" in line), text.strip()[-200:])
            raise SpecbenchError(
                f"the kernels cannot be compiled with {command[0]}: {reason}",
                "g++ 11 or clang++ 14 and newer can; name one in CXX",
                ExitCode.RUN,
            )
