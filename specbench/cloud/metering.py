"""Energy of the machine of a served model, read for the edges that ask."""

from __future__ import annotations

import secrets
from functools import cached_property
from pathlib import Path

from specbench.clock import now_ms
from specbench.cloud.local import LocalCloud
from specbench.cloud.transport.answers import Metered
from specbench.energy import EnergyMeter, Found, find_counters, machine_id
from specbench.results.records import EnergyCounter
from specbench.roles.powered import counts

INTERVAL_MS = 200.0  # as `memory.monitor_interval_ms`, which is the edge's
SPLIT = "the model is split among processes, of which each may have counters of its own"


class CloudMetering:
    """Finds and reads the counters from when they are first asked for.

    Args:
        model: of which the counters count the work, and that of its draft.
        root: of the file system in which the kernel's files are looked for.
    """

    def __init__(self, model: LocalCloud, root: Path = Path("/")) -> None:
        self._model, self._root = model, root
        self._number = secrets.randbits(48)

    def told(self, number: int, edges: int) -> Metered:
        """What the counters say now, in answer to a frame of this number."""
        now, found = self._meter.mark(), self._found
        counters = (EnergyCounter(each.name, each.source, each.covers, ("cloud",)) for each in found.counters)
        return Metered(
            number,
            self._number,
            machine_id(self._root),
            int(now_ms() * 1000),
            edges,
            tuple(counters),
            now.joules,
            (*found.absent, *self._meter.lost),
        )

    @cached_property
    def _meter(self) -> EnergyMeter:
        """Reads until the process ends."""
        meter = EnergyMeter(self._found.counters, INTERVAL_MS)
        meter.__enter__()
        return meter

    @cached_property
    def _found(self) -> Found:
        if self._model.spec.ranks > 1:
            return Found(absent=(SPLIT,))
        found = find_counters(self._root)
        models = [self._model, *([self._model.draft] if self._model.draft else [])]
        mine = tuple(each for each in found.counters if any(counts(each, model) for model in models))
        return Found(mine, found.absent)
