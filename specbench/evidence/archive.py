"""Bundles as zip files: the same content makes the same bytes, and a strange file makes one error."""

from __future__ import annotations

import io
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from specbench.atomic import write_bytes
from specbench.errors import StoreError

NAME = re.compile(r"(?:bundle\.json|claims\.yaml|comparison\.json|runs/\w[\w.-]*/[a-z]+\.jsonl?)")
MOST_FILES = 2_000
MOST_BYTES = 512 * 1024**2
"""Of all files together, unpacked: a bundle is read into memory."""
MOMENT = (1980, 1, 1, 0, 0, 0)


def write(path: Path, files: Mapping[str, bytes]) -> None:
    """Replace a zip file in one step; neither the time nor the place of writing changes its bytes.

    Raises:
        SpecbenchError: it cannot be written.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, MOMENT)
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, files[name], compresslevel=9)
    try:
        write_bytes(path, buffer.getvalue())
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error


def read(path: Path) -> dict[str, bytes]:
    """The files of a bundle, by name. Nothing is unpacked onto the disk.

    Raises:
        SpecbenchError: it cannot be read, is damaged, or holds what no bundle does.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return dict(_files(path, archive))
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise StoreError(f"{path} is no bundle, or is damaged: {error}", "copy or make it again") from error


def _files(path: Path, archive: zipfile.ZipFile) -> Iterator[tuple[str, bytes]]:
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if len(names) > MOST_FILES or sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise _strange(path, f"it unpacks to more than {MOST_FILES} files or {MOST_BYTES // 1024**2} MiB")
    for entry in entries:
        mode = stat.S_IFMT(entry.external_attr >> 16)
        if (
            not NAME.fullmatch(entry.filename)
            or names.count(entry.filename) > 1
            or mode not in (0, stat.S_IFREG)
        ):
            raise _strange(
                path, f"it holds {entry.filename[:80]!r}, which no bundle has, or has once as a file"
            )
    for entry in entries:
        yield entry.filename, archive.read(entry)


def _strange(path: Path, why: str) -> StoreError:
    return StoreError(f"{path} is refused: {why}", "bundles are made by 'specbench bundle'")
