"""What this machine computes in, and how it is told to stop."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # mallopt's parameters, as malloc.h numbers them


def fast_dtype(device: str) -> torch.dtype:
    """bfloat16 where the processor computes in it, else float32."""
    import torch

    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return torch.float32
    flags = set(next((line for line in lines if line.startswith(("flags", "Features"))), "").split())
    return torch.bfloat16 if flags & {"avx512_bf16", "amx_bf16", "bf16"} else torch.float32


def keep_freed_memory() -> bool:
    """Let glibc keep large freed blocks instead of handing them back; whether it does.

    Otherwise every step has the pages of its logits zeroed anew, which took more than half of a training step
    where it was measured.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, 2**31 - 1))


@contextlib.contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
    """Hold Ctrl-C back while inside; the callable says whether it came.

    A step is thus finished before a run stops. A second Ctrl-C acts at once.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: object) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)
