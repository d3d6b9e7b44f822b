"""All counters of energy of this machine, whatever interface they have."""

from __future__ import annotations

import hashlib
from pathlib import Path

from specbench.energy import battery, ina3221, nvml, rapl
from specbench.energy.counter import Found, word

BOOT = Path("proc/sys/kernel/random/boot_id")
READERS = (rapl.find, nvml.find, ina3221.find, battery.find)


def find_counters(root: Path = Path("/")) -> Found:
    """What can be read here, and why the rest cannot.

    Args:
        root: of the file system in which the kernel's files are looked for.
    """
    found = [find(root) for find in READERS]
    counters = tuple(counter for each in found for counter in each.counters)
    return Found(counters, tuple(reason for each in found for reason in each.absent))


def machine_id(root: Path = Path("/")) -> str:
    """The same for all processes whose counters are the same: a hash of the kernel's start; empty if unknown.

    Args:
        root: as of `find_counters`.
    """
    boot = word(root / BOOT)
    return hashlib.sha256(boot.encode()).hexdigest() if boot else ""
