"""Progress bars that fit the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.progress import Progress, Task
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from specbench.render import console

REFRESH_PER_SECOND = 0.5  # a drawing takes 2 to 4 ms from the models
BAR_WIDTH, NARROWEST_BAR = 24, 6
GAP = 2  # between columns


class Bars(Progress):
    """A line a task: its name, a bar, and texts about it; redrawn every two seconds by rich's own thread.

    The bar gives way where there is little room; where even the texts have none beside the name, they go below.

    Args:
        texts: what to say of a task, from its fields.
        below: what stands under all lines.
    """

    def __init__(
        self, texts: Callable[[Task], Sequence[str]], below: Callable[[], RenderableType] | None = None
    ) -> None:
        self._texts, self._below = texts, below
        super().__init__(console=console.err, refresh_per_second=REFRESH_PER_SECOND, transient=True)

    def get_renderables(self) -> Iterator[RenderableType]:
        """The lines, and what stands under them."""
        if self.tasks:
            yield self.make_tasks_table(self.tasks)
        if self._below:
            yield self._below()

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        """All lines, as wide as the terminal."""
        rows = [(task, self._texts(task)) for task in tasks]
        names = max(cell_len(task.description) for task, _ in rows)
        texts = [max(map(cell_len, column)) for column in zip(*(shown for _, shown in rows), strict=True)]
        room = self.console.width - names - sum(texts) - GAP * (len(texts) + 1)
        table = Table.grid(padding=(0, GAP, 0, 0))
        for task, shown in rows:
            cells: list[RenderableType] = [Text(text, no_wrap=True) for text in shown]
            if room >= NARROWEST_BAR:
                bar = ProgressBar(task.total or 1, task.completed, min(BAR_WIDTH, room))
                cells.insert(0, bar)
            if room + GAP >= 0:
                table.add_row(Text(task.description, no_wrap=True), *cells)
            else:
                told = Text("  " + "  ".join(text for text in shown if text))
                table.add_row(Group(Text(task.description), told))
        return table
