"""The cloud model where it is split over ranks: this process holds a share of every weight."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any

from specbench.cloud.local import LocalCloud
from specbench.errors import ExitCode, SpecbenchError
from specbench.roles.role import ModelFactory

if TYPE_CHECKING:
    from specbench.cloud.rank_processes import RankProcesses
    from specbench.engine.base import Engine
    from specbench.engine.ranks import Ranks
    from specbench.models.loading import LoadedModel
    from specbench.results.records import Audit

logger = logging.getLogger(__name__)

WATCH_S = 0.2


class SplitCloudModel(LocalCloud):
    """One rank of the target. Rank 0 starts the others, unless torchrun has; `close` ends them.

    Raises:
        SpecbenchError: torchrun started another number of ranks than the profile says.
    """

    is_split = True

    def __init__(self, *arguments: Any, **fields: Any) -> None:
        super().__init__(*arguments, **fields)
        self.processes: RankProcesses | None = None
        self._ranks: Ranks | None = None
        self._closing = threading.Event()
        self.rank, size = int(os.environ.get("RANK", 0)), self.spec.ranks
        started = int(os.environ.get("WORLD_SIZE", 1))
        if "RANK" in os.environ and started != size:
            raise SpecbenchError(
                f"torchrun started {started} ranks, and cloud.parallel.tensor is {size}",
                f"torchrun --nproc-per-node {size} ..., or let 'specbench serve' start them",
                ExitCode.RUN,
            )

    @property
    def ranks(self) -> Ranks:
        """All ranks, met; a model that cannot be split is refused before they are started.

        Raises:
            SpecbenchError: it cannot be split, or there are too few devices.
            RanksLostError: a rank did not come.
        """
        if self._ranks is None:
            self._ranks = self._met()
        return self._ranks

    def _met(self) -> Ranks:
        from specbench.cloud.rank_processes import STORE, RankProcesses
        from specbench.engine import ranks
        from specbench.models import splitting

        spec, size = self.spec, self.spec.ranks
        splitting.demand_divisible(self.config, spec.model, size, spec.dtype)
        device = splitting.demand_devices(spec.device, size)
        if own := os.environ.get(STORE):
            return ranks.Ranks(ranks.own_store(own, size), self.rank, size, device)
        if "RANK" in os.environ:
            return ranks.Ranks(ranks.launcher_store(self.rank, size), self.rank, size, device)
        logger.info("starting %d more ranks", size - 1)
        self.processes = RankProcesses(self._profile_there(), size)
        return ranks.Ranks(
            ranks.own_store(self.processes.meeting_point, size), 0, size, device, self.processes.dead
        )

    def _loaded_engine(self) -> Engine:
        met = self.ranks  # before any weight is read
        engine = super()._loaded_engine()
        met.meet("read its weights")
        if self.processes:
            watched = self.processes
            threading.Thread(target=self._watch, args=(watched,), name="specbench ranks", daemon=True).start()
        if self.rank == 0:
            engine.require_steps()
        return engine

    def follow(self) -> None:
        """What every rank but 0 does once it is loaded: the orders of rank 0, to the end.

        Raises:
            RanksLostError: rank 0 is gone, or another one was lost in a pass.
        """
        from specbench.engine.split import follow

        try:
            follow(self.engine, self.ranks, {"audit": self._own_audit})
        except RuntimeError as error:
            raise self.ranks.lost(error) from error

    def audit(self) -> Audit:
        """What precision the model really has, on all ranks."""
        from specbench.engine.split import SplitEngine
        from specbench.precision.rank_audits import merged

        engine = self.engine
        assert isinstance(engine, SplitEngine)  # a split model is never compiled
        return merged(engine.together("audit", self._own_audit))

    def close(self) -> None:
        """End all ranks."""
        self._closing.set()
        together = self._ranks
        if together and together.loss is None and self.is_loaded:  # else they do not listen yet
            together.release()
        if self.processes:  # whoever hangs is ended first, for leaving waits for it
            self.processes.stop()
        if together:
            together.leave()

    def _own_audit(self) -> Audit:
        return ModelFactory.audit(self)

    def _eager(self, loaded: LoadedModel, size: int) -> Engine:
        from specbench.engine.split import SplitEngine

        return SplitEngine(loaded, size, self.ranks) if self.rank == 0 else super()._eager(loaded, size)

    def _demand_steps(self, engine: Engine) -> None:
        """Nothing yet: the other ranks join in passes once all have met."""

    def _watch(self, processes: RankProcesses) -> None:
        while not self._closing.wait(WATCH_S):
            if reason := processes.dead():
                self.ranks.lose(reason)
                return
