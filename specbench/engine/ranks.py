"""The processes of one split model: how they find each other, and how rank 0 tells the others what to do.

Collectives of a pass are bounded by `PASS_S`, so that a rank that hangs ends them all. A rank without work
waits for its next order as long as it takes, for a rank 0 that dies closes the connection.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

from specbench.engine.threads import release_compute_threads
from specbench.errors import RanksLostError, first_line

if TYPE_CHECKING:
    from torch.distributed import Store

PASS_S = 60.0
"""How long one collective of a pass may take: ranks that compute the same are never far apart."""
START_S = 1800.0
"""How long ranks wait for each other until all have read their weights."""
IDLE = timedelta(days=365)
DEATH_S = 2.0
"""How long the reason is looked for when a pass fails: a process that died is known a little later."""


def own_store(path: str, size: int) -> Store:
    """Where the ranks of one host meet: a file, so that nobody listens on a network."""
    return dist.FileStore(path, size)


def launcher_store(rank: int, size: int) -> Store:
    """Where ranks meet that torchrun started, by `MASTER_ADDR` and `MASTER_PORT`."""
    store, _, _ = next(dist.rendezvous("env://", rank, size, timeout=timedelta(seconds=START_S)))
    return store


class Ranks:
    """All ranks, seen from one of them.

    Args:
        device: `cpu` (gloo) or `cuda` (nccl).
        dead: which rank has ended and why, where this process started them.

    Raises:
        RanksLostError: a rank did not come.
    """

    def __init__(
        self, store: Store, rank: int, size: int, device: str, dead: Callable[[], str | None] = lambda: None
    ) -> None:
        self.rank, self.size = rank, size
        self.loss: str | None = None
        self.has_left = False
        self._store, self._dead = dist.PrefixStore("specbench", store), dead
        self._listeners: list[Callable[[], object]] = []
        self._losing = threading.RLock()
        self.meet("started")
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        pass_s = timedelta(seconds=PASS_S)
        try:
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=pass_s)
            self._orders = dist.new_group(backend="gloo", timeout=IDLE if rank else pass_s)
        except RuntimeError as error:
            raise self.lost(error) from error

    def meet(self, stage: str) -> None:
        """Wait until all ranks have come this far.

        Raises:
            RanksLostError: one ended, or did not come within `START_S`.
        """
        self._store.set(f"{stage} {self.rank}", "")
        until = time.monotonic() + START_S
        try:
            for rank in range(self.size):
                while not self._store.check([f"{stage} {rank}"]):
                    if reason := self._dead():
                        raise RanksLostError(self.lose(reason))
                    if time.monotonic() > until:
                        raise RanksLostError(self.lose(f"rank {rank} of {self.size} has not {stage}"))
                    time.sleep(0.02)
        except RuntimeError as error:  # of the store
            raise self.lost(error) from error

    def tell(self, order: object) -> None:
        """Rank 0 gives all others an order; small, and of plain values and tensors in main memory."""
        dist.broadcast_object_list([order], src=0, group=self._orders)

    def hear(self) -> Any:
        """The next order, on any other rank."""
        release_compute_threads()
        box: list[Any] = [None]
        dist.broadcast_object_list(box, src=0, group=self._orders)
        return box[0]

    def gather(self, value: object) -> list:
        """What all ranks say, in their order, on rank 0; nothing elsewhere."""
        if self.rank:
            dist.gather_object(value, None, dst=0, group=self._orders)
            return []
        said: list = [None] * self.size
        dist.gather_object(value, said, dst=0, group=self._orders)
        return said

    def when_lost(self, listener: Callable[[], object]) -> None:
        """Have somebody told, once, in any thread, that the model cannot go on; `loss` says why."""
        with self._losing:
            self._listeners.append(listener)
            late = self.loss is not None
        if late:
            listener()

    def lose(self, reason: str) -> str:
        """The model cannot go on; returns the first reason that was given."""
        with self._losing:
            is_first = self.loss is None
            self.loss = self.loss or reason
        if is_first:
            for listener in self._listeners:
                listener()
        return self.loss

    def lost(self, error: Exception) -> RanksLostError:
        """What to raise when a pass failed: the ranks are out of step, and a dead one is the likely reason."""
        until = time.monotonic() + DEATH_S
        while self.loss is None and (reason := self._dead()) is None and time.monotonic() < until:
            time.sleep(0.02)
        reason = self.loss or self._dead() or f"a pass over {self.size} ranks failed: {first_line(error)}"
        return RanksLostError(self.lose(reason))

    def release(self) -> None:
        """Rank 0 lets the others go."""
        if self.rank == 0:
            with contextlib.suppress(RuntimeError):  # they are gone
                self.tell(None)

    def leave(self) -> None:
        """Leave the others; nobody hears an order any more."""
        self.has_left = True
        if dist.is_initialized():
            dist.destroy_process_group()
