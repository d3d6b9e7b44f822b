"""The one printer: data to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys

from rich.console import Console
from rich.text import Text

from specbench.errors import SpecbenchError

PIPE_WIDTH = 160


def _console(stderr: bool) -> Console:
    """A console; where it is no terminal, wide enough that a file holds whole tables."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


out = _console(stderr=False)
err = _console(stderr=True)


def print_json(value: object) -> None:
    """JSON alone on stdout; where that is not UTF-8, escaped to ASCII.

    Raises:
        ValueError: a figure is infinite or none, which JSON cannot say.
    """
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=not is_utf8, allow_nan=False) + "\n")


def print_error(error: SpecbenchError) -> None:
    """One sentence, and a hint if there is a way out."""
    err.print(Text.assemble(("error: ", "bold red"), error.message), soft_wrap=True)
    if error.hint:
        err.print(Text.assemble(("hint: ", "bold cyan"), error.hint), soft_wrap=True)


def note(line: str) -> None:
    """A line about what is going on, on stderr."""
    err.print(Text(line, style="dim"), soft_wrap=True)
