"""Tables that fit the width they are printed at: columns without room go into a further table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

Cell = str | Text
GAP = 2  # between columns
NARROWEST = 8


def folding(*columns: str, title: str | None = None) -> Table:
    """An empty table whose cells go on in a further line where a column has no room."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


@dataclass(frozen=True)
class Fitted:
    """Rows of figures, each behind the names of its row; the names stand in every part.

    Args:
        names: headings of the first columns, which are words; `columns` those of the others, aligned right.
        rows: cells of both, as text or styled.
        styles: of each row, where any has one.
        words: how many of `columns`, at the end, are words too.
    """

    names: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    styles: Sequence[str | None] = ()
    words: int = 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """One table, or as many as the width asks for."""
        left = list(range(len(self.names), len(self.names) + len(self.columns)))
        width = options.max_width
        while True:
            count = len(left)
            part = self._table(left, width)
            while count > 1 and Measurement.get(console, options.update(width=10_000), part).maximum > width:
                count -= 1
                part = self._table(left[:count], width)
            yield part
            yield Text("")
            left = left[count:]
            if not left:
                return

    def fits(self, console: Console, options: ConsoleOptions) -> bool:
        """Whether one table holds all columns, every name whole."""
        names = [self._longest(index) for index in range(len(self.names))]
        table = self._table(range(len(self.names), len(self.names) + len(self.columns)), 10_000)
        width = Measurement.get(console, options.update(width=10_000), table).maximum
        return width <= options.max_width and sum(names) < options.max_width

    def _table(self, shown: Sequence[int], width: int) -> Table:
        """The names, and some of the other columns."""
        table = Table(
            box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0), show_edge=False, pad_edge=False
        )
        headings = [*self.names, *self.columns]
        figures = range(len(self.names), len(headings) - self.words)
        room = width - GAP - max((self._longest(index) for index in figures), default=0)
        for name, wide in zip(self.names, self._name_widths(room), strict=True):
            table.add_column(name, overflow="fold", min_width=wide, max_width=wide)
        for index in shown:
            is_figure = index in figures
            justify: JustifyMethod = "right" if is_figure else "left"
            table.add_column(headings[index], justify=justify, no_wrap=is_figure, overflow="fold")
        for index, row in enumerate(self.rows):
            cells = [row[at] for at in (*range(len(self.names)), *shown)]
            style = self.styles[index] if self.styles else None
            table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), style=style)
        return table

    def _name_widths(self, room: int) -> list[int]:
        """As wide as they need, the widest narrowed until all fit beside one column of figures."""
        widths = [self._longest(index) for index in range(len(self.names))]
        while sum(widths) + GAP * len(widths) > room and max(widths) > NARROWEST:
            widths[widths.index(max(widths))] -= 1
        return widths

    def _longest(self, index: int) -> int:
        cells = [(*self.names, *self.columns)[index], *(str(row[index]) for row in self.rows)]
        return max(cell_len(line) for cell in cells for line in cell.split("\n"))
