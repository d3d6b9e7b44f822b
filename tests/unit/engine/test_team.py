"""The threads that stay together for a pass, in a program of their own."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from specbench.engine.kernels import build

ROOT = Path(torch.__file__).parent


@pytest.mark.slow
def test_every_piece_is_done_once_whoever_comes_late_or_fails(tmp_path):
    program = tmp_path / "team"
    openmp = [str(path) for path in sorted((ROOT / "lib").glob("libgomp*.so*"))]
    includes = (Path(build.__file__).parent, ROOT / "include", ROOT / "include/torch/csrc/api/include")
    subprocess.run(
        [
            shutil.which("g++"), *build.FLAGS, *(f"-I{folder}" for folder in includes),
            str(Path(__file__).parent / "team.cpp"), "-o", str(program), f"-L{ROOT / 'lib'}", "-ltorch_cpu",
            "-lc10", *openmp, f"-Wl,-rpath,{ROOT / 'lib'}",
        ],
        check=True,
    )  # fmt: skip
    assert subprocess.run([program], check=True, capture_output=True, text=True).stdout == "right\n"
