"""The wheel holds the whole tree, and works where nothing else of the repository is."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from repository import REPOSITORY

SITE_PACKAGES = Path(pytest.__file__).parents[1]
INSTALLED_AS = {"specbench": "specbench", "plugins": "specbench/plugins", "profiles": "specbench/profiles"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(REPOSITORY)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_every_file_of_the_tree_and_no_other(wheel):
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *INSTALLED_AS],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    expected = {name.replace(top, INSTALLED_AS[top], 1) for name in listed for top in [name.partition("/")[0]]}
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == expected


@pytest.mark.slow
def test_an_installed_wheel_runs_its_commands(wheel, tmp_path):
    """A clean environment with the wheel alone; its dependencies are borrowed from this one."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", str(wheel)], check=True, timeout=300)
    packages = next((tmp_path / "venv").glob("lib/*/site-packages"))
    (packages / "borrowed.pth").write_text(f"{SITE_PACKAGES}\n")
    program = tmp_path / "venv" / "bin" / "specbench"
    for command, expected in [
        (["--help"], "check-dtype"),
        (["plugins"], "cloud_optimized_baseline"),
        (["profiles", "show", "memory_optimized"], "offload_folder"),
        (["check-dtype", "--all"], "float32"),
    ]:
        environment = dict(os.environ)  # readline puts COLUMNS behind Python's back
        done = subprocess.run(
            [program, *command], capture_output=True, text=True, cwd=tmp_path, timeout=300, env=environment
        )
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout
    where = "import specbench, specbench.plugins; print(specbench.__file__, specbench.plugins.__file__)"
    shown = subprocess.run([python, "-c", where], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert all(str(packages) in path for path in shown.stdout.split())
