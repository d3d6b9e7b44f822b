"""Progress while a run goes on: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from specbench.bench.observer import Progress
from specbench.bench.telemetry import MemoryMonitor, MemorySample
from specbench.records import Failure
from specbench.render import console

REFRESH_PER_SECOND = 0.5  # a drawing takes 2 to 4 ms from the models
SPARKS = "▁▂▃▄▅▆▇█"
SPARKLINE_WIDTH = 40
BAR_WIDTH, NARROWEST_BAR = 24, 6
GAP = 2  # between columns
UNKNOWN_LEFT = "-:-- left"


class LiveView:
    """A bar per method and a memory panel, redrawn every two seconds by rich's own thread."""

    def __init__(self) -> None:
        self._progress: dict[str, Progress] = {}
        self._monitor: MemoryMonitor | None = None
        self._live: Live | None = None
        self._started_s = 0.0

    def note(self, line: str) -> None:
        """Print a line above the bars."""
        console.note(line)

    def started(self, progress: Sequence[Progress], monitor: MemoryMonitor) -> None:
        """Show the bars."""
        self._progress = {part.method: part for part in progress}
        self._initial = dict(self._progress)
        self._monitor = monitor
        self._started_s = time.monotonic()
        self._live = Live(
            get_renderable=self._render,
            console=console.err,
            refresh_per_second=REFRESH_PER_SECOND,
            transient=True,
        )
        self._live.start()

    def advanced(self, progress: Progress) -> None:
        """Keep the newest snapshot; drawing happens elsewhere."""
        self._progress[progress.method] = progress

    def failed(self, failure: Failure) -> None:
        """Say it at once."""
        console.err.print(Text(f"failed: {failure.method}: {failure.error}", style="red"))

    def close(self) -> None:
        """Take the bars down."""
        if self._live:
            self._live.stop()
            self._live = None

    def _render(self) -> RenderableType:
        rows = [
            (
                part.method,
                part.prompts_done / part.prompts_total if part.prompts_total else 1.0,
                (f"{part.prompts_done}/{part.prompts_total}", *figures(part), self._time_left(part)),
            )
            for part in self._progress.values()
        ]
        table = bars(rows, console.err.width)
        if self._monitor is None:
            return table
        return Group(table, Panel(memory_line(self._monitor.latest()), title="memory", title_align="left"))

    def _time_left(self, part: Progress) -> str:
        """From this method's own pace, and from how often its turn comes."""
        fresh = part.prompts_done - self._initial[part.method].prompts_done
        if not fresh:
            return UNKNOWN_LEFT
        elapsed_s = time.monotonic() - self._started_s
        left_s = elapsed_s / fresh * (part.prompts_total - part.prompts_done)
        return f"{int(left_s) // 60}:{int(left_s) % 60:02d} left"


def bars(rows: Sequence[tuple[str, float, Sequence[str]]], width: int) -> RenderableType:
    """A line a row: its name, a bar for a share, and texts. The bar gives way where there is little room.

    Where even the texts have none beside the name, they stand below it.
    """
    names = max(cell_len(name) for name, _, _ in rows)
    texts = [max(map(cell_len, column)) for column in zip(*(row[2] for row in rows), strict=True)]
    room = width - names - sum(texts) - GAP * (len(texts) + 1)
    table = Table.grid(padding=(0, GAP, 0, 0))
    for name, share, shown in rows:
        cells: list[RenderableType] = [Text(text, no_wrap=True) for text in shown]
        if room >= NARROWEST_BAR:
            cells.insert(0, ProgressBar(total=1.0, completed=share, width=min(BAR_WIDTH, room)))
        if room + GAP >= 0:
            table.add_row(Text(name, no_wrap=True), *cells)
        else:
            table.add_row(Group(Text(name), Text("  " + "  ".join(text for text in shown if text))))
    return table


class PlainView:
    """One line a finished prompt, for logs."""

    def __init__(self) -> None:
        self._done: dict[str, int] = {}

    def note(self, line: str) -> None:
        """Print it."""
        console.note(line)

    def started(self, progress: Sequence[Progress], monitor: MemoryMonitor) -> None:
        """Say what is coming."""
        self._done = {part.method: part.prompts_done for part in progress}
        self._monitor = monitor
        todo = ", ".join(
            f"{part.method} ({part.prompts_total - part.prompts_done} prompts)" for part in progress
        )
        console.note(f"measuring: {todo}")

    def advanced(self, progress: Progress) -> None:
        """Print a line when a prompt is finished, not at every round."""
        if progress.prompts_done == self._done[progress.method]:
            return
        self._done[progress.method] = progress.prompts_done
        rss = self._monitor.latest().rss_bytes
        done = f"{progress.prompts_done}/{progress.prompts_total}"
        console.note("  ".join([f"{progress.method} {done}", *figures(progress), f"{rss / 1e9:.2f} GB"]))

    def failed(self, failure: Failure) -> None:
        """Say it at once."""
        console.err.print(f"failed: {failure.method}: {failure.error}", markup=False)

    def close(self) -> None:
        """Nothing to take down."""


def make_view() -> LiveView | PlainView:
    """The view that suits stderr."""
    return LiveView() if console.err.is_terminal else PlainView()


def figures(part: Progress) -> tuple[str, str]:
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
