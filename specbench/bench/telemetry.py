"""Memory, watched from a thread while methods run."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

HISTORY = 120


@dataclass(frozen=True)
class MemorySample:
    """One look at memory; CUDA figures are `None` where no CUDA device is in use."""

    rss_bytes: int
    peak_rss_bytes: int
    machine_bytes: int
    cuda_allocated_bytes: int | None
    cuda_reserved_bytes: int | None
    history: tuple[int, ...]


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
        self._lock = threading.Lock()
        self._history: deque[int] = deque(maxlen=HISTORY)
        self._peak = self._since = 0
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

    def begin_interval(self) -> None:
        """Start a new interval for `interval_peak`."""
        import torch

        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()
        self._sample()
        with self._lock:
            self._since = self._history[-1]

    def interval_peak(self) -> tuple[int, int | None]:
        """Highest resident size and highest CUDA allocation since `begin_interval`, in bytes."""
        import torch

        self._sample()
        cuda = torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None
        with self._lock:
            return self._since, cuda

    def _watch(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._sample()

    def _sample(self) -> None:
        rss = self._process.memory_info().rss
        cuda = _cuda_bytes()
        with self._lock:
            self._history.append(rss)
            self._peak = max(self._peak, rss)
            self._since = max(self._since, rss)
            self._cuda = cuda


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
