"""Which threads compute: one at a time, with a team of OpenMP threads of its own. Who waits sends it home.

libgomp, torch's OpenMP on Linux, lets a team spin between two parallel regions, and cuts that to almost nothing
once the teams of a process, those that idle included, have more threads than the machine has cores: each of the
hundreds of regions of a pass then ends with a sleep and a wake-up. Measured on two cores: a compiled pass of
135 M parameters took 47 ms instead of 20 because another thread had loaded the model, and `model.generate` 63
instead of 37. A team that spins for
nobody also takes a core from whoever computes next, in another process too.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

SOFT_PAUSE = 1  # omp_pause_soft, OpenMP 5.0, section 3.2.43


def model_thread() -> ThreadPoolExecutor:
    """One thread for forward passes, with as many compute threads as the caller has."""
    import torch

    # A new thread starts from the machine's default otherwise.
    return ThreadPoolExecutor(1, "specbench passes", torch.set_num_threads, (torch.get_num_threads(),))


def send_team_home() -> None:
    """End the compute threads of the calling thread; its next parallel region starts them again, in 0.1 ms.

    Call it before waiting for what another thread or process computes. Does nothing with an OpenMP that cannot.
    """
    if "torch" in sys.modules:  # which brings OpenMP along
        _pause()(SOFT_PAUSE)


@cache
def _pause() -> Callable[[int], int]:
    return getattr(ctypes.CDLL(None), "omp_pause_resource_all", lambda kind: kind)
