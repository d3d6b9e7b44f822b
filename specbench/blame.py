"""Where in a plugin an error came from: the plugin's own line first, whatever library raised it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """A line of code."""

    file: str
    line: int | None
    function: str

    @property
    def in_words(self) -> str:
        """File and line, without the folder."""
        return f"{Path(self.file).name}:{self.line}, in {self.function}"


def place_of(error: BaseException, module: str) -> str | None:
    """The innermost line of a plugin's own code that an error passed, and where it was raised if elsewhere.

    Args:
        module: the name of the plugin's module.
    """
    frames = traceback.extract_tb(error.__traceback__)
    places = [Place(frame.filename, frame.lineno, frame.name) for frame in frames]
    if not places:
        return None
    own, raised = _innermost(places, module), places[-1]
    if own is None or own == raised:
        return raised.in_words
    return f"{own.in_words}; raised in {Path(raised.file).name}:{raised.line}"


def place_in(generator: object, module: str) -> str | None:
    """The innermost line of a plugin's own code at which a generator waits; `None` where it has ended."""
    own = _innermost(list(_waiting(generator)), module)
    return own.in_words if own else None


def traceback_of(error: BaseException) -> str:
    """The traceback of an error, with those that caused it, as text that any file can hold."""
    return printable("".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip())


def printable(text: str) -> str:
    """A text without lone surrogates, which no file in UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _innermost(places: list[Place], module: str) -> Place | None:
    """The last of the places that lies in the plugin: in its file, or in its package's folder."""
    plugin = sys.modules.get(module)
    if plugin is None or not plugin.__file__:
        return None
    file = Path(plugin.__file__)
    for place in reversed(places):
        if Path(place.file) == file or (plugin.__package__ and file.parent in Path(place.file).parents):
            return place
    return None


def _waiting(generator: Any) -> Iterator[Place]:
    """Where a generator, and those that it yields from, stand; outermost first."""
    while frame := getattr(generator, "gi_frame", None):
        yield Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
        generator = generator.gi_yieldfrom
