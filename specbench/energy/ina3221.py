"""Power of the rails of an NVIDIA Jetson, from its INA3221 sensors (`/sys/class/hwmon`)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from specbench.energy.counter import Counter, Found, IntegratedPower, number, word

SENSORS = Path("sys/class/hwmon")
CHANNELS = (1, 2, 3)
WHOLE = ("VDD_IN", "POM_5V_IN")
"""Rails that feed all others."""


def find(root: Path) -> Found:
    """The rails of a machine; only the one that feeds all others where there is one.

    Args:
        root: the file system's.
    """
    rails: dict[str, Counter] = {}
    for sensor in sorted((root / SENSORS).glob("hwmon*")):
        if word(sensor / "name") != "ina3221":
            continue
        for channel in CHANNELS:
            label = word(sensor / f"in{channel}_label") or f"{sensor.name} channel {channel}"
            watts = partial(_watts, sensor, channel)
            try:
                watts()
            except OSError:
                continue  # a channel that is off, or not wired
            covers = "machine" if label in WHOLE else "rail"
            rails[label] = IntegratedPower(label, "INA3221", covers, watts)
    whole = [rail for rail in rails.values() if rail.covers == "machine"]
    return Found(tuple(whole or rails.values()))


def _watts(sensor: Path, channel: int) -> float:
    """Millivolts times milliamperes."""
    return number(sensor / f"in{channel}_input") * number(sensor / f"curr{channel}_input") / 1e6
