"""The one clock: monotonic, in milliseconds."""

from __future__ import annotations

import time


def now_ms() -> float:
    """Milliseconds since an arbitrary start; only differences mean something."""
    return time.perf_counter_ns() / 1e6
