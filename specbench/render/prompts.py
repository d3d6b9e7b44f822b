"""A prompts file, described as a table."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from specbench.prompts.describing import BOUNDS, Category, Description
from specbench.render.fitting import Fitted


def described(found: Description) -> Iterator[RenderableType]:
    """A table of categories, and a line or two about the whole."""
    bins = [f"≤ {BOUNDS[0]}", *(f"≤ {bound}" for bound in BOUNDS[1:]), f"> {BOUNDS[-1]}"]
    columns = ("prompts", "turns", "answers", "shortest", "median", "longest", *bins)
    rows = [_cells(each) for each in (*found.categories, found.total)]
    styles = [None] * len(found.categories) + ["bold"]
    yield Fitted(("category",), columns, rows, styles)
    yield Text(
        f"Lengths in tokens of {found.tokenizer}, of the turns' texts alone: without system message, template "
        "and prefill, and without images and audio. answers: prompts whose answer can be checked."
    )
    if found.repeated:
        yield Text(f"{found.repeated} prompts begin as another one does.")
    if found.provenance:
        known = found.provenance
        yield Text(
            f"Prepared from {known['source']} ({known['format']}), license: {known['license'] or 'not noted'}."
            + ("" if found.is_as_prepared else " The file was changed since.")
        )


def _cells(each: Category) -> tuple[str, ...]:
    figures = (
        each.prompts,
        each.turns,
        each.checkable,
        each.shortest,
        each.median,
        each.longest,
        *each.histogram,
    )
    return (each.name, *(f"{figure:,}" for figure in figures))
