"""Power that a machine takes from its battery (`/sys/class/power_supply`)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from specbench.energy.counter import Counter, Found, IntegratedPower, number, word

SUPPLIES = Path("sys/class/power_supply")
DISCHARGING = "Discharging"


def find(root: Path) -> Found:
    """The batteries that feed a machine now.

    Args:
        root: the file system's.
    """
    counters: list[Counter] = []
    absent = []
    for supply in sorted((root / SUPPLIES).glob("*")):
        # A mouse has a battery too, whose scope is its own device.
        if word(supply / "type") != "Battery" or word(supply / "scope") == "Device":
            continue
        status = word(supply / "status")
        if status != DISCHARGING:
            absent.append(
                f"battery {supply.name}: its status is {status or 'unknown'}, so it does not say what the "
                "machine takes; unplug the machine to measure by battery"
            )
            continue
        watts = partial(_watts, supply)
        try:
            watts()
        except OSError as error:
            absent.append(f"battery {supply.name}: {error}")
            continue
        counters.append(IntegratedPower(supply.name, "battery", "machine", watts))
    return Found(tuple(counters), tuple(absent))


def _watts(supply: Path) -> float:
    """What is taken from it.

    Raises:
        OSError: it is not what feeds the machine, or does not say how much.
    """
    if (status := word(supply / "status")) != DISCHARGING:
        raise OSError(f"its status is {status or 'unknown'}")
    power = supply / "power_now"  # microwatts; some drivers count what flows out as negative
    if power.exists():
        return abs(number(power)) / 1e6
    return abs(number(supply / "current_now") * number(supply / "voltage_now")) / 1e12
