"""Energy of processors and their memory, as Linux shows it in `/sys/class/powercap` (RAPL; Intel and AMD)."""

from __future__ import annotations

import re
from pathlib import Path

from specbench.energy.counter import Counter, Found, number, word

ZONES = Path("sys/class/powercap")
# Cores and graphics are parts of their package, and `psys` counts on each machine something else.
COVERS = {"package": "processor", "dram": "memory"}
HINT = "allow it: sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"


class RaplCounter:
    """One zone. Its register wraps around, so it has to be read more often than it does."""

    source = "RAPL"

    def __init__(self, zone: Path, name: str, covers: str) -> None:
        self.name, self.covers = name, covers
        self._path = zone / "energy_uj"
        self._range = number(zone / "max_energy_range_uj")
        self._last = number(self._path)
        self._total = 0

    def joules(self) -> float:
        """Energy since the counter was found.

        Raises:
            OSError: the register cannot be read.
        """
        now = number(self._path)
        self._total += now - self._last + (self._range if now < self._last else 0)
        self._last = now
        return self._total / 1e6


def find(root: Path) -> Found:
    """The packages of a machine, and their memory where that is counted apart.

    Args:
        root: the file system's.
    """
    counters: list[Counter] = []
    refused = False
    for zone in sorted((root / ZONES).glob("intel-rapl:*")):
        kind, covers = _kind(zone)
        if covers is None:
            continue
        try:
            counters.append(RaplCounter(zone, kind, covers))
        except PermissionError:
            refused = True
        except OSError:
            continue  # a zone without a counter
    if refused:
        return Found(tuple(counters), (f"RAPL: no permission to read the counters of the processor; {HINT}",))
    return Found(tuple(counters))


def _kind(zone: Path) -> tuple[str, str | None]:
    """A zone's name, that of its package included, and what it covers; `None` for one that another includes."""
    name = word(zone / "name")
    covers = COVERS.get(re.split(r"[-:]", name)[0])
    if covers == "memory":
        package = word(zone.parent / zone.name.rpartition(":")[0] / "name")
        name = f"{package} {name}"
    return name, covers
