"""The physical limit of decoding: a token reads every weight once, and memory gives so many bytes a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import nn

from specbench.decoding import kernels, pages
from specbench.decoding.quantized import QuantizedEmbedding, QuantizedMatrix
from specbench.errors import SpecbenchError
from specbench.models import confinement
from specbench.models.layers import layer_configs
from specbench.models.memory import free_bytes
from specbench.records import Ceiling

if TYPE_CHECKING:
    from specbench.models.loading import LoadedModel

READ_BYTES = 1 << 29  # more than any cache holds
ROW = 4096
REPEATS = 8


@cache
def read_bandwidth(device: str, threads: int) -> float:
    """Bytes a second that large reads get on `device`: the best of several, by the fastest reader there is.

    The readers are torch's sum and, on a CPU with a compiler, our own one-row product.

    Args:
        threads: torch's thread count, which the result depends on; measured once per process and count.
    """
    place = torch.device(device)
    left = free_bytes(device)
    if place.type == "cpu" and (within_limit := confinement.free_bytes()) is not None:
        left = min(left, within_limit)
    # A quarter of what is left: a figure in a table is no reason to run out of memory.
    size = min(READ_BYTES, left // 4)
    shape = max(1, size // 4 // ROW), ROW
    numbers = pages.empty(*shape).fill_(1) if place.type == "cpu" else torch.ones(shape, device=place)
    readers: list[Callable[[], object]] = [numbers.sum]
    if has_own_reader(device):
        product, x = kernels.load().linear, torch.ones(1, ROW)
        readers.append(lambda: product(x, numbers))
    with torch.inference_mode():
        return numbers.nbytes / min(_seconds(reader, place) for reader in readers for _ in range(REPEATS))


def ceiling(loaded: LoadedModel) -> Ceiling:
    """What memory allows a loaded model; under a second, never to be called on the clock."""
    device = str(loaded.device)
    reader = "torch or own kernel" if has_own_reader(device) else "torch"
    return Ceiling(weight_bytes(loaded.model), read_bandwidth(device, torch.get_num_threads()), reader)


def has_own_reader(device: str) -> bool:
    """Whether our own product reads too; without a compiler no engine reads faster than torch does."""
    if torch.device(device).type != "cpu":
        return False
    try:
        kernels.load()
    except SpecbenchError:
        return False
    return True


def weight_bytes(model: nn.Module) -> int | None:
    """Bytes of weights that one token must read: all but lookup tables, tied ones once.

    Returns:
        `None` for a mixture of experts, where the token decides.
    """
    experts = "num_experts", "num_local_experts", "n_routed_experts"
    if any(getattr(layer, name, None) for layer in layer_configs(model.config) for name in experts):
        return None
    read: dict[int, int] = {}
    for module in model.modules():
        if isinstance(module, (nn.Embedding, QuantizedEmbedding)):
            continue  # one row of it; where the head shares the table, the head counts it
        held = list(module.parameters(recurse=False))
        if isinstance(module, QuantizedMatrix):
            held += module.tensors
        read.update({id(tensor): tensor.nbytes for tensor in held})
    return sum(read.values())


def _seconds(read: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    read()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
