"""Where the weights of a target will lie, known before they are read: one device, several, disk, or ranks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from specbench.models import splitting
from specbench.models.architecture import meta_model
from specbench.models.devices import memory_limits, resolve_device
from specbench.models.library import quiet_transformers
from specbench.models.memory import MemoryEstimate
from specbench.profile import CloudSpec, ModelSpec

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

DISK = "disk"
WHOLE_ON_EVERY_RANK = ("replicate", "replicated_with_grad_allreduce", "all_reduce", "sequence_parallel")


def placed(config: PretrainedConfig, spec: ModelSpec, needed: MemoryEstimate) -> dict[str, int]:
    """Bytes by device, weights and cache; what is on `disk` takes no memory.

    Raises:
        SpecbenchError: a device that this machine does not have.
    """
    if isinstance(spec, CloudSpec) and spec.ranks > 1:
        splitting.demand_divisible(config, spec.model, spec.ranks, spec.dtype)
        share = rank_bytes(config, spec.dtype, spec.ranks) + (needed.cache or 0) // spec.ranks
        if splitting.demand_devices(spec.device, spec.ranks) == "cpu":
            return {"cpu": spec.ranks * share}
        return {f"cuda:{rank}": share for rank in range(spec.ranks)}
    if isinstance(spec, CloudSpec) and spec.device_map is not None:
        return _mapped(config, spec, needed.cache or 0)
    return {resolve_device(spec.device): needed.total}


def rank_bytes(config: PretrainedConfig, dtype: str, ranks: int) -> int:
    """What each rank holds: its share of what transformers' plan splits, and the whole of all else."""
    model = meta_model(config, dtype)
    model.tie_weights()
    split = {rule for rule, style in model.tp_plan.items() if style not in WHOLE_ON_EVERY_RANK}
    held = 0
    for name, weights in model.named_parameters():
        general = re.sub(r"\d+", "*", name)
        is_split = general in split or general.rpartition(".")[0] in split
        held += weights.nbytes // (ranks if is_split else 1)
    return held


def device_plan(config: PretrainedConfig, spec: CloudSpec) -> tuple[PreTrainedModel, dict[str, int | str]]:
    """The model without weights, and where accelerate will put its parts."""
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory, get_max_memory

    model = meta_model(config, spec.dtype)
    model.tie_weights()
    whole = list(model._no_split_modules or ())
    limits = memory_limits(spec.max_memory)
    with quiet_transformers():
        if spec.device_map == "sequential":
            limits = get_max_memory(limits)
        else:
            is_low = spec.device_map == "balanced_low_0"
            limits = get_balanced_memory(model, limits, no_split_module_classes=whole, low_zero=is_low)
        return model, infer_auto_device_map(model, max_memory=limits, no_split_module_classes=whole)


def _mapped(config: PretrainedConfig, spec: CloudSpec, cache: int) -> dict[str, int]:
    """By device; of what lies on disk one matrix at a time is in memory too, while it computes."""
    model, plan = device_plan(config, spec)
    found: dict[str, int] = {}
    largest = 0
    for part, device in plan.items():
        sizes = [weights.nbytes for weights in _weights(model, part)]
        name = f"cuda:{device}" if isinstance(device, int) else str(device)
        found[name] = found.get(name, 0) + sum(sizes)
        largest = max([largest, *sizes]) if name == DISK else largest
    computes = next((name for name in found if name != DISK), "cpu")
    found[computes] = found.get(computes, 0) + cache + largest
    return found


def _weights(model: PreTrainedModel, part: str) -> Iterator:
    for name, weights in model.named_parameters():
        if not part or name == part or name.startswith(f"{part}."):
            yield weights
