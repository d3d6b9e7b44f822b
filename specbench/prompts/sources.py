"""Where rows come from: a file, a folder, a data set of the hub, or one that is known by name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from specbench.errors import SpecbenchError, first_line
from specbench.prompts import formats
from specbench.prompts.containers import Row, numbered, read_rows
from specbench.prompts.formats import FORMATS, Format

HUB = "hf:"


@dataclass(frozen=True)
class Source:
    """Rows, and what is known of them.

    Args:
        format_name: where the source's name gives it.
        sha256: of a file's bytes.
    """

    name: str
    rows: list[Row]
    format_name: str | None = None
    license: str | None = None
    revision: str | None = None
    sha256: str | None = None


def read_source(name: str, config: str | None, split: str | None, revision: str | None) -> Source:
    """Read `name`: a known data set such as `gsm8k`, `hf:OWNER/NAME`, a file, or a folder.

    Args:
        config: of a data set, such as `main`; `split` and `revision` too.

    Raises:
        SpecbenchError: it cannot be read, or there is nothing of that name.
    """
    path = Path(name)
    if path.is_file():
        return Source(path.name, read_rows(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    if path.is_dir() and any(each.suffix.lower() in (".txt", ".md") for each in path.iterdir()):
        return Source(path.name, read_rows(path))
    if path.is_dir():
        return Source(path.name, _dataset(name, config, split, revision))
    if name.startswith(HUB):
        rows = _dataset(name.removeprefix(HUB), config, split, revision)
        return Source(name.removeprefix(HUB), rows, revision=revision)
    known = FORMATS.get(name)
    if known is None or known.dataset is None:
        named = ", ".join(each for each, form in FORMATS.items() if form.dataset)
        raise SpecbenchError(
            f"{name} is neither a file, a folder, nor a known data set",
            f"known data sets: {named}; or hf:OWNER/NAME",
        )
    hub_id, own_config, own_split = known.dataset
    rows = _dataset(hub_id, config or own_config, split or own_split, revision)
    return Source(hub_id, rows, name, known.license, revision)


def choose_format(
    source: Source, name: str | None, column: str | None, category: str | None
) -> tuple[str, Format]:
    """The format of a source's rows, by what was asked for, by its name, or by its columns.

    Raises:
        SpecbenchError: no known format has these columns, or a column is missing.
    """
    if column is not None:
        if column not in source.rows[0].value:
            there = ", ".join(sorted(map(str, source.rows[0].value)))
            raise SpecbenchError(f"{source.rows[0].place}: there is no column {column}", f"columns: {there}")
        return f"column {column}", formats.from_column(column, category)
    found = name or source.format_name or formats.find_format(source.rows)
    return found, formats.lookup(found)


def _dataset(name: str, config: str | None, split: str | None, revision: str | None) -> list[Row]:
    """All rows of a data set of the hub, or of a folder that `datasets` can read."""
    try:
        import datasets
    except ImportError as error:
        raise SpecbenchError(
            f"data set {name}: 'datasets' is not installed", "pip install 'specbench[data]'"
        ) from error
    try:
        loaded = datasets.load_dataset(name, config, split=split, revision=revision)
    except Exception as error:  # whatever the hub, pyarrow and a data set's own files raise
        raise SpecbenchError(
            f"data set {name} cannot be loaded: {first_line(error)}",
            "check its name, --config, --split and --revision; without a hub, download it and name its folder",
        ) from error
    if isinstance(loaded, dict):
        if len(loaded) > 1:
            raise SpecbenchError(f"data set {name} has the splits {', '.join(loaded)}", "name one with --split")
        loaded = next(iter(loaded.values()))
    rows = list(numbered(loaded, name))
    if not rows:
        raise SpecbenchError(f"data set {name} holds no rows")
    return rows
