"""YAML 1.2 as profiles need it: one mapping, no duplicate keys, no aliases, every error with its place."""

from __future__ import annotations

import math
import re
from pathlib import Path

import yaml

from specbench.errors import ExitCode, SpecbenchError

MAX_BYTES = 256 * 1024

# Plain words that are no text, by tag, and the characters that they begin with: the core schema of YAML 1.2.
# PyYAML reads YAML 1.1, to which `off` is false, 1e-3 a text, 010 eight and 1:30 ninety.
CORE_SCHEMA = {
    "tag:yaml.org,2002:null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "tag:yaml.org,2002:int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "tag:yaml.org,2002:float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}


def _read_the_core_schema(kind: type[yaml.SafeLoader] | type[yaml.SafeDumper]) -> None:
    for tag, (pattern, first) in CORE_SCHEMA.items():
        kind.add_implicit_resolver(tag, re.compile(rf"(?:{pattern})\Z"), first)


class _ProfileLoader(yaml.SafeLoader):
    """SafeLoader that refuses aliases (they multiply) and duplicate keys (the last would win in silence)."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012  # the stubs of PyYAML call it an instance's

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise _refused(f"alias '*{event.anchor}' is not allowed in a profile", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int)):
                raise _refused(f"key {key!r} is not a name", key_node.start_mark)
            if key in seen:
                raise _refused(f"key '{key}' appears twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


def _refused(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


class _ProfileDumper(yaml.SafeDumper):
    """SafeDumper that quotes a text which YAML 1.1 or 1.2 would read as something else."""


_read_the_core_schema(_ProfileLoader)
_read_the_core_schema(_ProfileDumper)
_ProfileLoader.add_constructor("tag:yaml.org,2002:int", _ProfileLoader.construct_integer)


def parse_value(text: str) -> object:
    """The value of a `--set key=value`, read as YAML."""
    try:
        return yaml.load(text, Loader=_ProfileLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise SpecbenchError(
            f"'{text}' is not a YAML value", "quote it if it is text", ExitCode.USAGE
        ) from error


def as_text(value: object) -> str:
    """A value on one line, as it is read back here."""
    text = yaml.dump(value, Dumper=_ProfileDumper, default_flow_style=True, sort_keys=False, width=math.inf)
    return text.removesuffix("...\n").rstrip()  # the end of a document that is one scalar


def as_page(value: dict) -> str:
    """A mapping with a key a line, as it is read back here."""
    return yaml.dump(value, Dumper=_ProfileDumper, sort_keys=False, allow_unicode=True, width=112)


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
    return mapping_of(text, str(path), what, exit_code)


def mapping_of(text: str, path: str, what: str, exit_code: ExitCode) -> dict:
    """The YAML mapping of a text; where it stands and `what` it is stand in errors.

    Raises:
        SpecbenchError: it is no YAML, or not a mapping of names.
    """
    try:
        value = yaml.load(text, Loader=_ProfileLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else path
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
