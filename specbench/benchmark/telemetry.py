"""Memory, watched from a thread while methods run."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from specbench.clock import now_ms
from specbench.results.records import MemoryLook

HISTORY = 120
MOST_LOOKS = 16  # kept of one interval
CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass(frozen=True)
class MemorySample:
    """One look at memory; CUDA figures are `None` where no CUDA device is in use."""

    rss_bytes: int
    peak_rss_bytes: int
    machine_bytes: int
    cuda_allocated_bytes: int | None
    cuda_reserved_bytes: int | None
    history: tuple[int, ...]


@dataclass(frozen=True)
class Interval:
    """What memory did since `begin_interval`: the highest figures, and its course, thinned.

    `peak_rss_bytes` is the kernel's (`VmHWM`) where Linux lets a process reset it, else of the highest look.
    """

    peak_rss_bytes: int
    peak_cuda_bytes: int | None
    looks: tuple[MemoryLook, ...]


class MemoryMonitor:
    """Samples the process's resident memory at an interval, and knows the peak since it was last asked.

    Use as a context manager; the thread ends with the block.
    """

    def __init__(self, interval_ms: int) -> None:
        import psutil

        self._process = psutil.Process()
        self._machine_bytes = psutil.virtual_memory().total
        self._interval_s = interval_ms / 1000
        self._stop = threading.Event()
        self._is_paused = False
        self._lock = threading.Lock()
        self._history: deque[int] = deque(maxlen=HISTORY)
        self._peak = 0
        self._began_ms = now_ms()
        self._looks: list[MemoryLook] = []
        self._is_exact = False
        self._cuda: tuple[int, int] | None = None
        self._thread = threading.Thread(target=self._watch, name="memory monitor", daemon=True)

    def __enter__(self) -> MemoryMonitor:
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def latest(self) -> MemorySample:
        """The newest sample; takes none itself."""
        with self._lock:
            allocated, reserved = self._cuda or (None, None)
            return MemorySample(
                self._history[-1], self._peak, self._machine_bytes, allocated, reserved, tuple(self._history)
            )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Look away from memory that is no method's."""
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False

    def begin_interval(self) -> None:
        """Start a new interval for `interval`."""
        import torch

        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()
        with self._lock:
            self._began_ms, self._looks = now_ms(), []
        self._is_exact = _forget_peak()
        self._sample()

    def interval(self) -> Interval:
        """What was seen since `begin_interval`, this moment included."""
        import torch

        self._sample()
        cuda = torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None
        exact = _peak_bytes() if self._is_exact else 0
        with self._lock:
            peak = max(exact, *(look.rss_bytes for look in self._looks))
            self._peak = max(self._peak, peak)
            return Interval(peak, cuda, thinned(self._looks))

    def _watch(self) -> None:
        while not self._stop.wait(self._interval_s):
            if not self._is_paused:
                self._sample()

    def _sample(self) -> None:
        rss = self._process.memory_info().rss
        cuda = _cuda_bytes()
        with self._lock:
            self._history.append(rss)
            self._peak = max(self._peak, rss)
            self._cuda = cuda
            self._looks.append(MemoryLook(now_ms() - self._began_ms, rss, cuda[0] if cuda else None))


def thinned(looks: Sequence[MemoryLook]) -> tuple[MemoryLook, ...]:
    """At most 16 of them, in order: of each stretch the highest, so that no peak is lost."""
    if len(looks) <= MOST_LOOKS:
        return tuple(looks)
    edges = [round(index * len(looks) / MOST_LOOKS) for index in range(MOST_LOOKS + 1)]
    stretches = [looks[start:end] for start, end in pairwise(edges)]
    return tuple(max(part, key=lambda look: (look.rss_bytes, look.cuda_bytes or 0)) for part in stretches)


def _forget_peak() -> bool:
    """Have the kernel's peak of this process begin anew; says whether it could."""
    try:
        CLEAR_REFS.write_text("5")  # `man 5 proc_pid_clear_refs`: the peak alone
    except OSError:
        return False
    return True


def _peak_bytes() -> int:
    """The kernel's peak of resident memory since `_forget_peak`."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _cuda_bytes() -> tuple[int, int] | None:
    """Allocated and reserved bytes over all CUDA devices, if this process uses any."""
    import torch

    if not torch.cuda.is_initialized():
        return None
    devices = range(torch.cuda.device_count())
    return (
        sum(torch.cuda.memory_allocated(device) for device in devices),
        sum(torch.cuda.memory_reserved(device) for device in devices),
    )
