"""Files as rows: JSON lines, JSON, CSV, Parquet, plain text, and folders of texts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from specbench.benchmark.prompt_lines import LINE_BYTES_MAX, too_long
from specbench.errors import SpecbenchError

if TYPE_CHECKING:
    from collections.abc import Iterable

TEXT_COLUMN = "text"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class Row(NamedTuple):
    """One record of a file, and where it stands there, for messages."""

    place: str
    value: dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """All records of a file or folder; its kind is told by the name's ending.

    A text file gives a row for each line, a folder one for each `.txt` or `.md` file; their column is `text`.

    Raises:
        SpecbenchError: it cannot be read, or one of its records is malformed: the message names the line.
    """
    try:
        if path.is_dir():
            rows = list(_folder(path))
        else:
            rows = list(READERS.get(path.suffix.lower(), _json_lines)(path))
    except OSError as error:
        raise SpecbenchError(f"{path} cannot be read: {error.strerror or error}") from error
    if not rows:
        raise SpecbenchError(f"{path} holds no prompts")
    return rows


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line that is not blank, with its place.

    Raises:
        SpecbenchError: a line is too long, not UTF-8, or holds a NUL byte.
    """
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LINE_BYTES_MAX + 1):
            number += 1
            if len(line) > LINE_BYTES_MAX:
                raise too_long(f"{path}, line {number}")
            text = _decoded(line, path, number)
            if text.strip():
                yield f"{path}, line {number}", text.rstrip("\r\n")


def _decoded(data: bytes, path: Path, first: int = 1) -> str:
    """Text of a file, or of its line `first`.

    Raises:
        SpecbenchError: naming the line that is not UTF-8, or holds a NUL byte.
    """
    if first == 1 and data.startswith(UTF_16):
        raise SpecbenchError(f"{path}, line 1: UTF-16", "save it as UTF-8")
    if (at := data.find(b"\0")) >= 0:
        line = first + data.count(b"\n", 0, at)
        raise SpecbenchError(f"{path}, line {line}: holds a NUL byte", "save it as UTF-8 text")
    try:
        return data.decode("utf-8-sig" if first == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line = first + data.count(b"\n", 0, error.start)
        raise SpecbenchError(f"{path}, line {line}: not UTF-8", "save it as UTF-8") from error


def _json_lines(path: Path) -> Iterator[Row]:
    for place, line in _lines(path):
        yield Row(place, _record(_parsed(line, place), place))


def _json(path: Path) -> Iterator[Row]:
    value = _parsed(_decoded(path.read_bytes(), path), str(path))
    if isinstance(value, dict):
        lists = [each for each in value.values() if isinstance(each, list)]
        if len(lists) != 1:
            raise SpecbenchError(
                f"{path}: an object with {len(lists)} lists",
                "write an array, or an object with one array of records",
            )
        value = lists[0]
    if not isinstance(value, list):
        raise SpecbenchError(f"{path}: neither an array nor an object", "write an array of records")
    for number, item in enumerate(value, start=1):
        place = f"{path}, item {number}"
        yield Row(place, _record(item, place))


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecbenchError(f"{place}: not JSON ({error})") from error


def _record(value: object, place: str) -> dict[str, Any]:
    if isinstance(value, str):
        return {TEXT_COLUMN: value}
    if not isinstance(value, dict):
        raise SpecbenchError(f"{place}: not a JSON object", "write one object, or one string, for each prompt")
    return value


def _separated(path: Path) -> Iterator[Row]:
    """Rows of a table whose first line names the columns; tabs separate them in a `.tsv`."""
    text = io.StringIO(_decoded(path.read_bytes(), path), newline="")
    of_others = csv.field_size_limit(LINE_BYTES_MAX)  # of the whole process
    reader = csv.reader(text, strict=True, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    columns: list[str] = []
    try:
        for cells in reader:
            place = f"{path}, line {reader.line_num}"
            if not columns:
                columns = cells
                if len(set(columns)) < len(columns):
                    raise SpecbenchError(f"{place}: two columns have one name")
            elif cells and len(cells) != len(columns):
                raise SpecbenchError(
                    f"{place}: {len(cells)} cells where the first line names {len(columns)} columns"
                )
            elif cells:
                yield Row(place, dict(zip(columns, cells, strict=True)))
    except csv.Error as error:
        raise SpecbenchError(f"{path}, line {reader.line_num}: {error}") from error
    finally:
        csv.field_size_limit(of_others)


def _parquet(path: Path) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise SpecbenchError(f"{path}: Parquet needs pyarrow", "pip install 'specbench[data]'") from error
    try:
        records = parquet.read_table(path).to_pylist()
    except ArrowException as error:
        raise SpecbenchError(f"{path}: not a Parquet file ({error})") from error
    yield from numbered(records, str(path))


def numbered(records: Iterable[dict[str, Any]], name: str) -> Iterator[Row]:
    """Records of a table without lines, as rows that are numbered from 1."""
    for number, record in enumerate(records, start=1):
        yield Row(f"{name}, row {number}", record)


def _text(path: Path) -> Iterator[Row]:
    for place, line in _lines(path):
        yield Row(place, {TEXT_COLUMN: line})


def _folder(path: Path) -> Iterator[Row]:
    for file in sorted(each for each in path.iterdir() if each.suffix.lower() in (".txt", ".md")):
        yield Row(str(file), {"id": file.stem, TEXT_COLUMN: _decoded(file.read_bytes(), file)})


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": _separated,
    ".tsv": _separated,
    ".parquet": _parquet,
    ".txt": _text,
    ".md": _text,
}
