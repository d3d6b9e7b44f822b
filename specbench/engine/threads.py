"""Which threads compute: one at a time, with a team of OpenMP threads of its own.

libgomp, torch's OpenMP on Linux, lets a team spin between two parallel regions, for 3 to 5 ms. Two traps:

- It spins hardly at all once the teams of a process, those that idle included, have more threads than the
  machine has cores: each of the hundreds of regions of a pass then ends with a sleep and a wake-up. On two
  cores a compiled pass of 135 M parameters took 47 ms instead of 20 because another thread had loaded the
  model, and `model.generate` 63 instead of 37. So who waits for another thread's passes sends its team home.
- A team that spins behind its last region takes a core from another process that computes next: draft and
  target, where they share a machine. So teams are told to spin for 0.3 ms only, longer than any gap in a pass.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

SOFT_PAUSE = 1  # omp_pause_soft, OpenMP 5.0, section 3.2.43
SPIN_COUNT = 20_000  # 0.3 ms on a Xeon of 2023; libgomp's default is 300,000


def spin_briefly() -> None:
    """Let idle compute threads of this process, and of those that it starts, sleep soon. Comes before torch."""
    os.environ.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))


def model_thread() -> ThreadPoolExecutor:
    """One thread for forward passes, with as many compute threads as the caller has."""
    from concurrent.futures import ThreadPoolExecutor

    import torch

    # A new thread starts from the machine's default otherwise.
    return ThreadPoolExecutor(1, "specbench passes", torch.set_num_threads, (torch.get_num_threads(),))


def release_compute_threads() -> None:
    """End the compute threads of the calling thread; its next parallel region starts them again, in 0.1 ms.

    Call it before waiting for what another thread of this process computes. Does nothing with an OpenMP that
    cannot.
    """
    if "torch" in sys.modules:  # which brings OpenMP along
        _pause()(SOFT_PAUSE)


@cache
def _pause() -> Callable[[int], int]:
    import ctypes

    return getattr(ctypes.CDLL(None), "omp_pause_resource_all", lambda kind: kind)
