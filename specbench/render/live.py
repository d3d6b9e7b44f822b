"""Progress while a run goes on: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.progress import Task
from rich.status import Status
from rich.table import Table
from rich.text import Text

from specbench.render import console
from specbench.render.bars import GAP, Bars
from specbench.render.running_speedup import RunningSpeedups

if TYPE_CHECKING:
    from specbench.benchmark.observer import Progress as Snapshot
    from specbench.benchmark.telemetry import MemoryMonitor, MemorySample
    from specbench.results.records import Failure

SPARKS = "▁▂▃▄▅▆▇█"
SPARKLINE_WIDTH = 20
UNKNOWN_LEFT = "-:-- left"


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
    """What is being prepared; then a bar for the whole run, a line a method, and memory."""

    def __init__(self) -> None:
        self.bars: Bars | None = None
        self._status = Status("preparing models and prompts", console=console.err, refresh_per_second=4)
        self._progress: dict[str, Snapshot] = {}
        self._failed: set[str] = set()
        self._before = 0

    def prepare(self) -> None:
        """Show that work has begun, before anything heavy is imported."""
        self._status.start()

    def started(self, progress: Sequence[Snapshot], monitor: MemoryMonitor) -> None:
        """Show the bar."""
        self._status.stop()
        self._progress = {part.method: part for part in progress}
        self._failed = set()
        self._before = sum(part.prompts_done for part in progress)
        self._speedups = RunningSpeedups(progress)
        self.bars = Bars(self._told, lambda: self._below(monitor.latest()))
        self._all = self.bars.add_task("answers", total=self._total(), completed=self._before)
        self.bars.start()

    def advanced(self, progress: Snapshot) -> None:
        """Keep the newest snapshot; drawing happens elsewhere."""
        before, self._progress[progress.method] = self._progress[progress.method], progress
        if progress.prompts_done != before.prompts_done and self.bars:
            self._speedups.add(progress.method, progress.finished)
            self.bars.update(self._all, completed=self._done())

    def failed(self, failure: Failure) -> None:
        """Name the method and its error, and expect no more answers of it."""
        super().failed(failure)
        self._failed.add(failure.method)
        if self.bars:
            self.bars.update(self._all, total=self._total())

    def close(self) -> None:
        """Take everything down."""
        self._status.stop()
        if self.bars:
            self.bars.stop()

    def _done(self) -> int:
        return sum(part.prompts_done for part in self._progress.values())

    def _total(self) -> int:
        return sum(
            part.prompts_done if part.method in self._failed else part.prompts_total
            for part in self._progress.values()
        )

    def _told(self, task: Task) -> Sequence[str]:
        """How many answers there are, and the time left at the pace of this sitting."""
        fresh, left = task.completed - self._before, UNKNOWN_LEFT
        if fresh > 0:
            left_s = int((task.elapsed or 0.0) / fresh * (task.remaining or 0))
            left = f"{left_s // 60}:{left_s % 60:02d} left"
        return f"{int(task.completed)}/{int(task.total or 0)}", left

    def _below(self, sample: MemorySample) -> RenderableType:
        names = max(map(cell_len, self._progress))
        room = console.err.width - names - GAP
        columns = [column for column in METHOD_COLUMNS if (room := room - column.width - GAP) >= -GAP]
        table = Table.grid(padding=(0, GAP, 0, 0))
        table.add_row("", *(Text(column.heading, style="dim") for column in columns))
        for name, part in self._progress.items():
            cells = [column.cell(part, self._speedups) for column in columns]
            table.add_row(Text(name, no_wrap=True), *(Text(cell, no_wrap=True) for cell in cells))
        return Group(table, Text(f"memory  {memory_line(sample)}"))


@dataclass(frozen=True)
class MethodColumn:
    """One figure of a method while a run goes on."""

    heading: str
    width: int
    cell: Callable[[Snapshot, RunningSpeedups], str]


METHOD_COLUMNS = (
    MethodColumn("done", 7, lambda part, _: f"{part.prompts_done}/{part.prompts_total}"),
    MethodColumn("speed-up so far", 20, lambda part, speedups: speedups.text(part.method)),
    MethodColumn("tok/s", 6, lambda part, _: figures(part)[0].removesuffix(" tok/s")),
    MethodColumn("accept rate", 11, lambda part, _: figures(part)[1].removeprefix("accepted ")),
)


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
    """The view that suits stderr; on a terminal it shows at once that work has begun."""
    if not console.err.is_terminal:
        return PlainView()
    view = LiveView()
    view.prepare()
    return view


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
