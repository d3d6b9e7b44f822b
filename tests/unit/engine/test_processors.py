"""The kernels on processors that are not at hand: compiled for them, and run as they are or by qemu."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from specbench.engine.kernels import build

pytestmark = pytest.mark.slow

ARM_COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
ARM_SYSTEM = Path("/usr/aarch64-linux-gnu")  # where the cross compiler's libraries are


def said(folder: Path, command: list[str], *emulator: str) -> str:
    """What `alone.cpp` says, compiled by this command: it holds the kernels against plain loops."""
    program = folder / "alone"
    sources = [Path(torch.__file__).parent / "include", Path(build.__file__).parent]
    flags = [*build.FLAGS, *build.GCC_FLAGS]
    search = [part for source in sources for part in ("-I", str(source))]
    source = Path(__file__).with_name("alone.cpp")
    subprocess.run([*command, *flags, *search, str(source), "-o", str(program)], check=True)
    return subprocess.run([*emulator, program], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def gcc():
    compiler = build._compiler()
    if not build._is_gcc(compiler):
        pytest.skip("needs GCC")
    return compiler


@pytest.mark.parametrize("tuned_for", ["znver2", "znver3", "haswell"])
def test_rows_are_right_and_the_same_in_company_whatever_processor_gcc_tunes_for(tmp_path, gcc, tuned_for):
    if not {"avx2", "fma"} <= set(build.processor().split()):
        pytest.skip("needs a processor with AVX2")
    assert said(tmp_path, [gcc, "-march=haswell", f"-mtune={tuned_for}"]) == "all right\n"


def test_rows_are_right_without_named_instructions(tmp_path, gcc):
    if platform.machine() != "x86_64":
        pytest.skip("compiles for x86-64 without AVX2, so it needs an x86-64 processor")
    assert said(tmp_path, [gcc, "-march=x86-64"]) == "all right\n"


@pytest.mark.parametrize("processor", ["cortex-a72", "neoverse-v1"])
def test_rows_are_right_on_arm(tmp_path, processor):
    """On a Raspberry Pi 4's processor, and on a server's with SVE."""
    for program in (ARM_COMPILER, EMULATOR):
        if not shutil.which(program):
            pytest.skip(f"needs {program}: apt-get install g++-aarch64-linux-gnu qemu-user")
    emulator = (EMULATOR, "-L", str(ARM_SYSTEM))
    assert said(tmp_path, [ARM_COMPILER, f"-mcpu={processor}"], *emulator) == "all right\n"
