"""Commands that start this Python again, with the specbench that is imported here."""

from __future__ import annotations

import sys

# `python -m` looks in the working directory first; a clone there in a folder `specbench` is taken for it.
SAFE_PATH = ("-P",) if sys.version_info >= (3, 11) else ()


def module_command(module: str, *words: str) -> list[str]:
    """The command that runs a module as a program; Python 3.10 still looks in the working directory first."""
    return [sys.executable, *SAFE_PATH, "-m", module, *words]
