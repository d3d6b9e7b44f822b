"""What each answer of a run takes in energy, by the counters of this machine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from specbench.benchmark.preparation import Prepared
from specbench.energy import Counter, EnergyMeter, RemoteReading, find_counters, machine_id
from specbench.errors import CloudLostError
from specbench.results.records import EnergyCounter, Manifest
from specbench.results.records.energy import EnergyUse
from specbench.roles.powered import counts

if TYPE_CHECKING:
    from specbench.cloud.transport.answers import Metered

Result = TypeVar("Result")
logger = logging.getLogger(__name__)

IDLE_S = 3.0  # for which nothing is computed before the warm-up, so that idle power is known
ROLES = ("edge", "cloud")
NO_COUNTER = "this machine shows no counter of energy (RAPL, NVML, INA3221 or a battery)"
ELSEWHERE = "the cloud's energy is unknown: its server is elsewhere and does not tell it"
NO_COUNTER_THERE = "the cloud's energy is unknown: the server's machine shows no counter of energy"
THERE = "cloud "  # before the names of counters of the cloud's machine, which may be called as those here


class EnergyWatch(EnergyMeter):
    """Reads the counters beside which a model of the run computes. Use as a context manager.

    Args:
        root: of the file system in which the kernel's files are looked for.
    """

    def __init__(self, prepared: Prepared, root: Path = Path("/")) -> None:
        found, self._cloud = find_counters(root), prepared.cloud
        roles = [role for role in ROLES if role in prepared.roles]
        there, absent_there = None, []
        if "cloud" in roles and prepared.profile.cloud.is_elsewhere:
            there, own = self._metered(), machine_id(root)
            if own and there and there.machine == own:
                there = None  # its counters are those that are read here
            else:
                roles.remove("cloud")
                absent_there = _absent(there)
        known = [(counter, _roles(counter, prepared, roles)) for counter in found.counters]
        here = [
            EnergyCounter(counter.name, counter.source, counter.covers, mine) for counter, mine in known if mine
        ]
        counters_there = there.counters if there else ()
        remote = [replace(each, name=THERE + each.name, roles=("cloud",)) for each in counters_there]
        self.told = (*here, *remote)
        super().__init__(
            [counter for counter, mine in known if mine],
            prepared.profile.memory.monitor_interval_ms,
            self._reading if remote else None,
        )
        self._absent = [*found.absent, *(() if here else (NO_COUNTER,)), *absent_there]

    def __enter__(self) -> EnergyWatch:
        """Begin to read, and measure what is taken while nothing is computed."""
        super().__enter__()
        if self.told:
            logger.info("measuring idle power for %g s", IDLE_S)
            self.rest(IDLE_S)
        return self

    def _reading(self) -> RemoteReading | None:
        told = self._metered()
        if told is None:
            return None
        joules = {THERE + name: value for name, value in told.joules.items()}
        return RemoteReading(told.meter, told.at_us / 1000, joules, told.edges)

    def _metered(self) -> Metered | None:
        """What the cloud says of its counters; `None` where it tells nothing or is lost, which the run says."""
        try:
            return self._cloud.metered()
        except CloudLostError:
            return None

    def during(self, work: Callable[[], Result]) -> tuple[Result, EnergyUse | None]:
        """Do something; what comes of it, and what was taken meanwhile (`None` where nothing could be read)."""
        before = self.mark()
        done = work()
        use = self.since(before)
        return done, use if use.joules else None

    def noted(self, manifest: Manifest) -> Manifest:
        """The manifest with the counters, and with the reasons why others are absent."""
        absent = tuple(dict.fromkeys([*self._absent, *self.lost]))
        return replace(manifest, energy_counters=self.told, energy_absent=absent)


def _roles(counter: Counter, prepared: Prepared, here: list[str]) -> tuple[str, ...]:
    """Whose models compute where a counter counts."""
    return tuple(role for role in here if counts(counter, prepared.factory(role)))


def _absent(there: Metered | None) -> list[str]:
    """Why the cloud's energy is not known, or not all of it."""
    if there is None:
        return [ELSEWHERE]
    reasons = [f"cloud: {reason}" for reason in there.absent]
    return reasons if there.counters else [*reasons, NO_COUNTER_THERE]
