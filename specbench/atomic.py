"""Files that are on the disk whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from specbench.errors import StoreError

Record = TypeVar("Record")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; what lies there at the end takes `path`'s place in one step.

    Raises:
        OSError: it cannot be written. What `path` held before stays.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file's content in one step.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as partial:
        partial.write_bytes(data)


def write_json(path: Path, value: object, indent: int = 2) -> None:
    """Replace a file by a record as JSON; with an indent of 0 it takes one line.

    Raises:
        SpecbenchError: it cannot be written.
    """
    try:
        write_bytes(path, json_bytes(value, indent))
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error


def read_record(path: Path, kind: type[Record], version: int) -> Record:
    """A record that `write_json` wrote.

    Raises:
        SpecbenchError: it is damaged, or of another schema version.
        OSError: it cannot be read.
    """
    import msgspec

    data = path.read_bytes()
    try:
        found = msgspec.json.decode(data, type=dict).get("schema_version")
        if found != version:
            raise StoreError(
                f"{path} has schema version {found}; this specbench reads {version}",
                "use the version of specbench that wrote it, or start again",
            )
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is damaged: {error}") from error


def json_bytes(value: object, indent: int = 2) -> bytes:
    """A record as JSON with a newline at its end."""
    import msgspec

    encoded = msgspec.json.encode(value)
    return (msgspec.json.format(encoded, indent=indent) if indent else encoded) + b"\n"
