"""Drafts that lie in the package itself, as `specbench distill` made them; their cards are beside them."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "shipped"


def names() -> list[str]:
    """The shipped drafts."""
    return sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def folder_of(name: str) -> Path | None:
    """Where a shipped draft lies, or `None` when there is none of that name."""
    return FOLDER / name if name in names() else None
