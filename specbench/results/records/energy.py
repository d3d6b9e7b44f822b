"""Which counters of energy a run had, and what each answer took by them."""

from __future__ import annotations

from dataclasses import dataclass, field

MACHINE = "machine"


@dataclass(frozen=True)
class EnergyCounter:
    """A counter of energy that a run read.

    Args:
        source: `RAPL`, `NVML`, `INA3221` or `battery`.
        covers: what it counts: `processor`, `memory`, `gpu`, `rail`, or the whole `machine`.
        roles: whose models compute there. Of two that share a counter nobody measured the parts.
    """

    name: str
    source: str
    covers: str
    roles: tuple[str, ...]


@dataclass(frozen=True)
class EnergyUse:
    """What one answer took, by the name of each counter that could be read.

    Args:
        seconds: between the readings before and behind it.
        joules: in all.
        idle_watts: of the same counters, measured before the run while nothing was computed.
        remote_seconds: between the readings of each counter of another machine, by that machine's clock.
    """

    seconds: float
    joules: dict[str, float] = field(default_factory=dict)
    idle_watts: dict[str, float] = field(default_factory=dict)
    remote_seconds: dict[str, float] = field(default_factory=dict)

    def seconds_of(self, name: str) -> float:
        """Between the readings of one counter."""
        return self.remote_seconds.get(name, self.seconds)
