"""What a run was measured in: the code, the packages, the processor, and its clocks before and after."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Conditions:
    """The machine at one moment. What cannot be read here is `None`, or empty.

    Args:
        clock_mhz: of each core, now; `most_mhz` what the fastest of them may reach.
        governor: the kernel's rule for clocks; several are joined by commas.
        boost: whether clocks above the nominal one are allowed.
        throttled: how often a core was slowed down for heat or power since the machine started.
        quota_ms: time since its start for which this container was stopped by its processor quota.
        stolen_ms: processor time since the machine started that a hypervisor gave to others.
        temperature_c: of the hottest sensor.
        load: runnable processes, mean of the last minute.
    """

    at: str
    clock_mhz: tuple[float, ...] = ()
    most_mhz: float | None = None
    governor: str | None = None
    boost: bool | None = None
    throttled: int | None = None
    quota_ms: float | None = None
    stolen_ms: float | None = None
    temperature_c: float | None = None
    load: float | None = None
    available_bytes: int | None = None


@dataclass(frozen=True)
class Surroundings:
    """What stays during a run, and its conditions at the start and at the end.

    Args:
        commit: of the checkout that the code lies in, with `-dirty` where files differ from it.
        packages: versions of all installed distributions.
        instructions: the processor's vector instruction sets.
        caches: sizes by level and kind, such as `L1 Data`.
    """

    begun: Conditions
    ended: Conditions | None = None
    commit: str | None = None
    kernel: str | None = None
    packages: dict[str, str] = field(default_factory=dict)
    instructions: tuple[str, ...] = ()
    caches: dict[str, str] = field(default_factory=dict)
    swap_bytes: int | None = None
