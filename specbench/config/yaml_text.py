"""YAML as profiles need it: one mapping, no duplicate keys, no aliases, every error with its place."""

from __future__ import annotations

import math
from pathlib import Path

import yaml

from specbench.errors import ExitCode, SpecbenchError

MAX_BYTES = 256 * 1024


class _ProfileLoader(yaml.SafeLoader):
    """SafeLoader that refuses aliases (they multiply) and duplicate keys (the last would win in silence)."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.constructor.ConstructorError(
                None, None, f"alias '*{event.anchor}' is not allowed in a profile", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int)):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is not a name", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key}' appears twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_value(text: str) -> object:
    """The value of a `--set key=value`, read as YAML."""
    try:
        return yaml.load(text, Loader=_ProfileLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise SpecbenchError(
            f"'{text}' is not a YAML value", "quote it if it is text", ExitCode.USAGE
        ) from error


def as_text(value: object) -> str:
    """A value as it is read back here; JSON would not be, whose 1e-05 is a text to YAML 1.1."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf)
    return text.removesuffix("...\n").rstrip()  # the end of a document that is one scalar


def read_mapping(path: Path, what: str = "profile", exit_code: ExitCode = ExitCode.PROFILE) -> dict:
    """The YAML mapping in a file; `what` it is stands in errors.

    Raises:
        SpecbenchError: the file cannot be read, is no YAML, or is not a mapping of names.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SpecbenchError(f"{what} {path} is larger than {MAX_BYTES // 1024} KiB", exit_code=exit_code)
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SpecbenchError(
            f"{what} {path} is not UTF-8 (byte {error.start})", "save it as UTF-8", exit_code
        ) from error
    except OSError as error:
        raise SpecbenchError(f"{what} {path} cannot be read: {error.strerror}", exit_code=exit_code) from error
    try:
        value = yaml.load(text, Loader=_ProfileLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        hint = "indent with spaces; YAML forbids tabs" if "'\\t'" in str(error.problem) else None
        if "alias" in str(error.problem):
            hint = "write the values out, or use extends:"
        raise SpecbenchError(f"{place}: {error.problem}", hint, exit_code) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise SpecbenchError(f"{what} {path} is not valid YAML: {reason}", None, exit_code) from error
    if not isinstance(value, dict):
        found = "empty" if value is None else f"a {type(value).__name__}"
        raise SpecbenchError(
            f"{what} {path} is {found}, not a mapping",
            "write 'key: value' lines; 'specbench profiles show default' is an example",
            exit_code,
        )
    return value
