"""Processes of our own run the specbench that is imported, wherever they are started."""

import subprocess
import sys

import pytest

from specbench import __version__
from specbench.interpreter import module_command


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 looks in the working directory first")
def test_a_clone_in_the_working_directory_is_not_taken_for_the_package(tmp_path):
    (tmp_path / "specbench" / "docs").mkdir(parents=True)
    words = module_command("specbench", "--version")
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == f"specbench {__version__}", done.stderr
