"""The one clock: monotonic, in milliseconds; or a virtual one, on which real code is replayed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class VirtualClock:
    """A clock that stands still until it is told what something takes."""

    def __init__(self) -> None:
        self.now_ms = 0.0

    def advance(self, ms: float) -> None:
        """Let so many milliseconds pass."""
        self.now_ms += ms


_virtual: ContextVar[VirtualClock | None] = ContextVar("virtual clock", default=None)


def now_ms() -> float:
    """Milliseconds since an arbitrary start; only differences mean something."""
    clock = _virtual.get()
    return time.perf_counter_ns() / 1e6 if clock is None else clock.now_ms


@contextmanager
def virtual_time() -> Iterator[VirtualClock]:
    """`now_ms` reads a virtual clock in this thread, which begins at 0."""
    clock = VirtualClock()
    token = _virtual.set(clock)
    try:
        yield clock
    finally:
        _virtual.reset(token)
