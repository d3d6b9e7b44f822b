"""Where the files and folders lie that a profile names.

A path in a profile's file is relative to that file's folder, a path in an option to the working directory. A
profile that is loaded has paths as the working directory sees them.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from specbench.errors import SpecbenchWarning

VOCAB_MAP = "edge.vocab_map"
KEYS = (
    "edge.model", "cloud.model", VOCAB_MAP, "cloud.token_file", "cloud.offload_folder", "workload.prompts",
    "workload.chat_template", "link.trace",
)  # fmt: skip
NO_PATHS = ("builtin", "raw")


def seen_from_here(values: dict, file: Path) -> dict:
    """What a profile's file says, with its relative paths as the working directory sees them.

    A path that leads nowhere from the file's folder, and somewhere from the working directory, is taken from
    there with a warning.

    Args:
        file: where the values stand, as an absolute path.
    """

    def seen(key: str, value: str) -> str:
        there = file.parent / value
        if there.exists() or not _exists(value):
            is_meant = there.exists() or value.startswith(("./", "../"))
            return _shown(there, value, key) if is_meant else value
        if _is_of_the_model(key, value):
            return value
        warnings.warn(
            f"{key}: {value} is not in the folder of {file.name}, and was found from the working directory; "
            f"a path in a profile is relative to the profile, so write it from there",
            SpecbenchWarning,
            stacklevel=2,
        )
        return value

    return _with_paths(values, seen)


def anchored(values: dict) -> dict:
    """A loaded profile, as plain values, that means the same wherever it is written."""

    def absolute(key: str, value: str) -> str:
        is_path = value.startswith(("./", "../")) or _exists(value)
        return os.path.abspath(value) if is_path and not _is_of_the_model(key, value) else value

    return _with_paths(values, absolute)


def anchored_values(key: str, values: Sequence[object]) -> list[object]:
    """Values of one key of a profile, each as `anchored` has it."""
    part, _, name = key.partition(".")
    return [anchored({part: {name: value}})[part][name] for value in values]


def _is_of_the_model(key: str, value: str) -> bool:
    """Whether it is the bare name of a file in the model's folder, which nobody knows yet."""
    return key == VOCAB_MAP and os.sep not in value


def _exists(value: str) -> bool:
    return Path(value).exists()


def _shown(there: Path, value: str, key: str) -> str:
    path = Path(os.path.normpath(there))
    if path == Path(os.path.abspath(value)) and not _is_of_the_model(key, value):
        return value
    return f".{os.sep}{path.relative_to(Path.cwd())}" if path.is_relative_to(Path.cwd()) else str(path)


def _with_paths(values: dict, change: Callable[[str, str], str]) -> dict:
    changed = {name: dict(part) if isinstance(part, dict) else part for name, part in values.items()}
    for key in KEYS:
        part, _, name = key.partition(".")
        value = changed[part].get(name) if isinstance(changed.get(part), dict) else None
        if not isinstance(value, str) or value in ("", *NO_PATHS):
            continue
        if not value.startswith(("/", "~", "embedded:")):
            changed[part][name] = change(key, value)
    edge = changed.get("edge")
    if isinstance(edge, dict) and isinstance(helpers := edge.get("helpers"), dict):
        edge["helpers"] = {name: _with_paths({"edge": spec}, change)["edge"] for name, spec in helpers.items()}
    return changed
