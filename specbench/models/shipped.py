"""Drafts that lie in the package itself, as `specbench distill` made them; their cards are beside them."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "shipped"


def names() -> list[str]:
    """The shipped drafts."""
    return sorted(folder.name for folder in FOLDER.iterdir() if (folder / "config.json").is_file())


def folder_of(name: str) -> Path | None:
    """Where a shipped draft lies, or `None` when there is none of that name."""
    return FOLDER / name if name in names() else None
