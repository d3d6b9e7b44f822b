"""Which counters of energy count what a model computes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from specbench.energy import Counter
from specbench.energy.nvml import NvmlCounter

if TYPE_CHECKING:
    from specbench.roles.role import ModelFactory


def counts(counter: Counter, factory: ModelFactory) -> bool:
    """Whether a counter of this machine counts what a model computes: that of a GPU, if it lies there."""
    return not isinstance(counter, NvmlCounter) or any(uuid in counter.uuid for uuid in gpus(factory) if uuid)


def gpus(factory: ModelFactory) -> Iterator[str]:
    """The identifiers of the GPUs on which a model lies, or may lie where another process has it."""
    import torch

    if factory.is_here:
        loaded = factory.in_memory
        devices = {part.device for part in loaded.model.parameters()} if loaded else set()
        indices = {device.index or 0 for device in devices if device.type == "cuda"}
    elif factory.device == "cpu" or not torch.cuda.is_available():
        indices = set()
    else:
        number = factory.device.partition(":")[2]
        indices = {int(number)} if number else set(range(torch.cuda.device_count()))
    for index in indices:
        yield str(getattr(torch.cuda.get_device_properties(index), "uuid", ""))
