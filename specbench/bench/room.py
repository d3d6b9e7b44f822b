"""Whether the models fit into memory, asked before they are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from specbench.errors import ExitCode, SpecbenchError

if TYPE_CHECKING:
    from specbench.bench.preparation import Prepared


def demand_memory(prepared: Prepared, context_tokens: int, say: Callable[[str], None]) -> None:
    """Compare what the models will take with what is free, before reading them.

    Raises:
        SpecbenchError: they do not fit on a device, or cannot be split as the profile says.
    """
    from specbench.models import confinement, memory
    from specbench.models.placement import DISK, placed

    left = confinement.free_bytes()
    needed: dict[str, int] = {}
    for role in prepared.roles:
        factory = prepared.factory(role)
        if role == "cloud" and prepared.profile.cloud.is_elsewhere:
            continue
        where = placed(factory.config, factory.spec, context_tokens)
        total = sum(where.values())
        held = getattr(factory.spec, "quantization", None) or factory.dtype
        say(f"{role}: {factory.spec.model} needs about {total / 1e9:.2f} GB in {held} {_in_words(where)}")
        if role == "edge" and left is not None and total > left:
            raise SpecbenchError(
                f"the edge model needs about {total / 1e9:.2f} GB, and edge.memory_limit leaves "
                f"{left / 1e9:.2f} GB",
                "raise the limit, or choose a smaller draft",
                ExitCode.MODEL,
            )
        for device, size in where.items():
            needed[device] = needed.get(device, 0) + size
    needed.pop(DISK, None)
    for device, total in needed.items():
        free = memory.free_bytes(device)
        say(f"{device}: about {total / 1e9:.2f} GB needed, {free / 1e9:.1f} GB free")
        if total > free:
            raise SpecbenchError(
                f"the models need about {total / 1e9:.1f} GB on {device}, and {free / 1e9:.1f} GB are free",
                "cloud.device_map with cloud.max_memory spreads and offloads the target, as the profile "
                "memory_optimized does; or choose smaller models",
                ExitCode.MODEL,
            )


def _in_words(where: dict[str, int]) -> str:
    if len(where) == 1:
        return f"on {next(iter(where))}"
    return ": " + ", ".join(f"{size / 1e9:.2f} on {device}" for device, size in where.items())
