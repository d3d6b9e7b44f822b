"""Whether the models fit into memory, asked before they are read."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from specbench.api import CloudModel, EdgeModel
from specbench.errors import ModelError, SpecbenchError, first_line

logger = logging.getLogger(__name__)


def demand_memory(factories: Mapping[str, EdgeModel | CloudModel], context_tokens: int) -> None:
    """Compare what the models will take with what is free, before reading them.

    Args:
        factories: by role, those whose weights are read on this machine.
        context_tokens: tokens that each cache will hold at most.

    Raises:
        SpecbenchError: they do not fit on a device, or cannot be split as the profile says.
    """
    from specbench.models import confinement, memory
    from specbench.models.placement import DISK, placed

    left = confinement.free_bytes()
    needed: dict[str, int] = {}
    drafts = 0
    for role, factory in factories.items():
        config, spec = factory.config, factory.spec
        try:
            estimate = factory.memory_estimate(context_tokens)
            where = placed(config, spec, estimate)
        except SpecbenchError:
            raise
        except Exception as error:  # a model that cannot be built without its weights may load all the same
            logger.info(f"{role}: cannot estimate the memory of {spec.model}: {first_line(error)}")
            continue
        total = sum(where.values())
        beside = " plus a cache of unknown size" if estimate.cache is None else ""
        size = f"{total / 1e9:.2f} GB{beside} in {factory.held_as} {_in_words(where)}"
        logger.info(f"{role}: {spec.model} needs about {size}")
        drafts += total if role != "cloud" else 0
        if left is not None and drafts > left:
            raise ModelError(
                f"the edge's models need about {drafts / 1e9:.2f} GB, but edge.memory_limit leaves "
                f"{left / 1e9:.2f} GB",
                "raise edge.memory_limit, or choose a smaller draft",
            )
        for device, held_bytes in where.items():
            needed[device] = needed.get(device, 0) + held_bytes
    needed.pop(DISK, None)
    for device, total in needed.items():
        free = memory.free_bytes(device)
        logger.info(f"{device}: about {total / 1e9:.2f} GB needed, {free / 1e9:.1f} GB free")
        if total > free:
            raise ModelError(
                f"the models need about {total / 1e9:.1f} GB on {device}, but only {free / 1e9:.1f} "
                "GB are free",
                "cloud.device_map with cloud.max_memory spreads and offloads the target, as the profile "
                "memory_optimized does; or choose smaller models",
            )


def _in_words(where: dict[str, int]) -> str:
    if len(where) == 1:
        return f"on {next(iter(where))}"
    return ": " + ", ".join(f"{size / 1e9:.2f} on {device}" for device, size in where.items())
