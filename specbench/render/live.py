"""Progress while a run goes on: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress import Progress, Task, TaskID
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from specbench.benchmark.observer import Progress as Snapshot
from specbench.benchmark.telemetry import MemoryMonitor, MemorySample
from specbench.render import console
from specbench.results.records import Failure

REFRESH_PER_SECOND = 0.5  # a drawing takes 2 to 4 ms from the models
SPARKS = "▁▂▃▄▅▆▇█"
SPARKLINE_WIDTH = 40
BAR_WIDTH, NARROWEST_BAR = 24, 6
GAP = 2  # between columns
UNKNOWN_LEFT = "-:-- left"


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


class View:
    """What a view says at once, on a terminal or not."""

    def note(self, line: str) -> None:
        """Print a line, above the bars where there are any."""
        console.note(line)

    def failed(self, failure: Failure) -> None:
        """Name the method and its error."""
        console.err.print(Text(f"failed: {failure.method}: {failure.error}", style="red"))

    def close(self) -> None:
        """Take down what was put up."""


class LiveView(View):
    """A bar per method and a memory panel."""

    def __init__(self) -> None:
        self.bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}

    def started(self, progress: Sequence[Snapshot], monitor: MemoryMonitor) -> None:
        """Show the bars."""
        self.bars = Bars(_told, lambda: _memory_panel(monitor.latest()))
        for part in progress:
            fields = {"now": part, "before": part.prompts_done}
            self._tasks[part.method] = self.bars.add_task(
                part.method, total=part.prompts_total, completed=part.prompts_done, **fields
            )
        self.bars.start()

    def advanced(self, progress: Snapshot) -> None:
        """Keep the newest snapshot; drawing happens elsewhere."""
        if self.bars:
            self.bars.update(self._tasks[progress.method], completed=progress.prompts_done, now=progress)

    def close(self) -> None:
        """Take the bars down."""
        if self.bars:
            self.bars.stop()


def _told(task: Task) -> Sequence[str]:
    part: Snapshot = task.fields["now"]
    return f"{part.prompts_done}/{part.prompts_total}", *figures(part), _time_left(task)


def _time_left(task: Task) -> str:
    """From this method's own pace, and from how often its turn comes: rich looks no more than 30 s back."""
    fresh = task.completed - task.fields["before"]
    if not fresh:
        return UNKNOWN_LEFT
    left_s = int((task.elapsed or 0.0) / fresh * (task.remaining or 0))
    return f"{left_s // 60}:{left_s % 60:02d} left"


def _memory_panel(sample: MemorySample) -> Panel:
    return Panel(memory_line(sample), title="memory", title_align="left")


class PlainView(View):
    """One line a finished prompt, for logs."""

    def __init__(self) -> None:
        self._done: dict[str, int] = {}

    def started(self, progress: Sequence[Snapshot], monitor: MemoryMonitor) -> None:
        """Say what is coming."""
        self._done = {part.method: part.prompts_done for part in progress}
        self._monitor = monitor
        todo = ", ".join(
            f"{part.method} ({part.prompts_total - part.prompts_done} prompts)" for part in progress
        )
        console.note(f"measuring: {todo}")

    def advanced(self, progress: Snapshot) -> None:
        """Print a line when a prompt is finished, not at every round."""
        if progress.prompts_done == self._done[progress.method]:
            return
        self._done[progress.method] = progress.prompts_done
        rss = self._monitor.latest().rss_bytes
        done = f"{progress.prompts_done}/{progress.prompts_total}"
        console.note("  ".join([f"{progress.method} {done}", *figures(progress), f"{rss / 1e9:.2f} GB"]))


def make_view() -> LiveView | PlainView:
    """The view that suits stderr."""
    return LiveView() if console.err.is_terminal else PlainView()


def figures(part: Snapshot) -> tuple[str, str]:
    """Tokens per second and acceptance so far."""
    speed = f"{part.tokens / part.busy_ms * 1000:.1f} tok/s" if part.busy_ms else "- tok/s"
    acceptance = f"accepted {part.accepted / part.drafted:.2f}" if part.drafted else ""
    return speed, acceptance


def memory_line(sample: MemorySample) -> str:
    """Resident size, peak, share of the machine, CUDA figures where there are any, and a sparkline."""
    text = (
        f"{sparkline(sample.history[-SPARKLINE_WIDTH:])}  {sample.rss_bytes / 1e9:.2f} GB, peak "
        f"{sample.peak_rss_bytes / 1e9:.2f} GB, {sample.rss_bytes / sample.machine_bytes:.0%} of the machine"
    )
    if sample.cuda_allocated_bytes is not None and sample.cuda_reserved_bytes is not None:
        text += (
            f"; CUDA {sample.cuda_allocated_bytes / 1e9:.2f} GB allocated, "
            f"{sample.cuda_reserved_bytes / 1e9:.2f} GB reserved"
        )
    return text


def sparkline(values: Sequence[int]) -> str:
    """Values as a row of blocks, from the lowest to the highest."""
    low, high = min(values), max(values)
    span = (high - low) or 1
    return "".join(SPARKS[(value - low) * (len(SPARKS) - 1) // span] for value in values)
