"""Energy of NVIDIA GPUs since their driver was loaded (NVML; `pip install 'specbench[gpu]'`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from specbench.energy.counter import Counter, Found

DRIVER = Path("proc/driver/nvidia")


class NvmlCounter:
    """One GPU, all of it: what other processes compute there is counted too.

    Args:
        uuid: NVIDIA's own name of the GPU.
    """

    source, covers = "NVML", "gpu"

    def __init__(self, nvml: Any, handle: Any, index: int, uuid: str) -> None:
        self.name, self.uuid = f"gpu {index}", uuid
        self._nvml, self._handle = nvml, handle
        self._first_mj = self._millijoules()

    def joules(self) -> float:
        """Energy since the counter was found.

        Raises:
            OSError: the driver refuses.
        """
        return (self._millijoules() - self._first_mj) / 1000

    def _millijoules(self) -> int:
        try:
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except self._nvml.NVMLError as error:
            raise OSError(f"{self.name}: {error}") from error


def find(root: Path, nvml: Any = None) -> Found:
    """The GPUs of a machine; nothing is said where there is no driver for any.

    Args:
        root: the file system's.
        nvml: NVIDIA's module `pynvml`; looked for when absent.
    """
    if not (root / DRIVER).exists():
        return Found()
    if nvml is None:
        try:
            import pynvml
        except ImportError:
            return Found(absent=("NVML: nvidia-ml-py is not installed; pip install 'specbench[gpu]'",))
        nvml = pynvml
    try:
        nvml.nvmlInit()
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        return Found(absent=(f"NVML: {error}",))
    counters: list[Counter] = []
    absent = []
    for index in range(count):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = nvml.nvmlDeviceGetUUID(handle)
            counters.append(NvmlCounter(nvml, handle, index, str(uuid)))
        except (OSError, nvml.NVMLError) as error:  # GPUs before Volta have no such counter
            absent.append(f"NVML: gpu {index} has no counter of energy ({error})")
    return Found(tuple(counters), tuple(absent))
