"""Energy: counters of this machine, found at run time, and a meter that reads them."""

from specbench.energy.counter import Counter, Found
from specbench.energy.finding import find_counters, machine_id
from specbench.energy.meter import EnergyMeter, RemoteReading

__all__ = ["Counter", "EnergyMeter", "Found", "RemoteReading", "find_counters", "machine_id"]
