"""A machine's counters of energy as the kernel's files show them, and NVML as its documentation has it."""

import threading
import time


def write(root, path, **files):
    """A folder below `root` with a line in each file."""
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")
    return folder


def rapl(root, zone="intel-rapl:0", name="package-0", uj=1000, most=262_143_328_850):
    return write(root, f"sys/class/powercap/{zone}", name=name, energy_uj=uj, max_energy_range_uj=most)


def ina3221(root, number=1, **rails):
    """Rails by label: millivolts and milliamperes."""
    files = {"name": "ina3221"}
    for channel, (label, (mv, ma)) in enumerate(rails.items(), 1):
        files |= {f"in{channel}_label": label, f"in{channel}_input": mv, f"curr{channel}_input": ma}
    return write(root, f"sys/class/hwmon/hwmon{number}", **files)


def battery(root, name="BAT0", status="Discharging", **files):
    return write(root, f"sys/class/power_supply/{name}", type="Battery", status=status, **files)


class PoweredProcessor:
    """A package that takes so many watts, whatever is computed; its counter goes on in a thread."""

    def __init__(self, root, watts):
        self._path = rapl(root) / "energy_uj"
        self._watts, self._stop = watts, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._begun = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        # A line that grows is written over the old one in one piece, so that no reader finds half a number.
        with self._path.open("r+b", buffering=0) as file:
            while not self._stop.wait(0.001):
                micros = int((time.perf_counter() - self._begun) * self._watts * 1e6)
                file.seek(0)
                file.write(b"%020d\n" % micros)


class Nvml:
    """`pynvml` for one GPU whose counter answers these millijoules in turn.

    No GPU was here to record: names, units and errors are those of NVML's documentation.
    """

    class NVMLError(Exception):
        pass

    def __init__(self, millijoules, uuid="GPU-5b2c"):
        self._millijoules, self._uuid = iter(millijoules), uuid

    def nvmlInit(self):  # noqa: N802
        pass

    def nvmlDeviceGetCount(self):  # noqa: N802
        return 1

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, handle):  # noqa: N802
        return self._uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        value = next(self._millijoules)
        if value is None:
            raise self.NVMLError("Not Supported")
        return value
