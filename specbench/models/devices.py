"""The devices of this machine that a profile names."""

from __future__ import annotations

from specbench.errors import ModelError


def resolve_device(name: str) -> str:
    """`auto` is the first CUDA device where there is one, else the CPU.

    Raises:
        SpecbenchError: a CUDA device that this machine does not have.
    """
    import torch

    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        index = int(name.partition(":")[2] or 0)
        if index >= torch.cuda.device_count():
            raise ModelError(
                f"device {name} does not exist on this machine ({torch.cuda.device_count()} CUDA devices)",
                "use device: auto or device: cpu",
            )
    return name


def memory_limits(limits: dict[str, str] | None) -> dict | None:
    """Accelerate's limits; a device that is not named keeps all that is free on it.

    Raises:
        SpecbenchError: a device that this machine does not have.
    """
    if limits is None:
        return None
    from accelerate.utils import get_max_memory

    available = get_max_memory()
    for name, size in limits.items():
        device: int | str = int(name) if name.isdigit() else name
        if device not in available:
            raise ModelError(
                f"cloud.max_memory names device '{name}', which this machine does not have",
                f"devices here: {', '.join(str(key) for key in available)}",
            )
        available[device] = size.replace(" ", "")
    return available
