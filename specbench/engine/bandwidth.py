"""The physical limit of decoding: a token reads every weight once, and memory gives so many bytes a second."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from specbench.engine import huge_pages, kernels
from specbench.engine.mixtures import is_mixture
from specbench.engine.quantized import QuantizedEmbedding, QuantizedMatrix
from specbench.engine.threads import release_compute_threads
from specbench.errors import SpecbenchError
from specbench.models import confinement
from specbench.models.architecture import layer_configs
from specbench.models.memory import free_bytes
from specbench.results.ceilings import Ceiling

READ_BYTES = 1 << 29  # where the size that a token reads is unknown: more than any cache holds
ROW = 4096
FIRST_READS, READS = 8, 2


class MemoryReader:
    """Reads memory as fast as can be, in reads of one size, as decoding reads the weights again and again.

    The readers are torch's sum and, on a CPU with a compiler, our own one-row product; the first measurement
    tells which is the faster one. The buffer is freed behind each measurement, so no method's memory grows.

    Args:
        size: bytes of a read: the model's own, so that a cache that holds a part of the weights holds as much
            of the buffer.
    """

    def __init__(self, device: str, size: int) -> None:
        self._device = torch.device(device)
        self._size = size
        self._fastest: int | None = None
        self.read_bytes: int | None = None

    def bytes_per_second(self) -> float:
        """The best of a few reads, now."""
        readers, count = self._readers()
        chosen = range(len(readers)) if self._fastest is None else [self._fastest]
        reads = FIRST_READS if self._fastest is None else READS
        with torch.inference_mode():
            seconds = {one: min(_seconds(readers[one], self._device) for _ in range(reads)) for one in chosen}
        self._fastest, self.read_bytes = min(seconds, key=lambda one: seconds[one]), count
        release_compute_threads()
        return count / min(seconds.values())

    def _readers(self) -> tuple[list[Callable[[], object]], int]:
        """What reads a new buffer, and how large that is."""
        place = self._device
        left = free_bytes(str(place))
        if place.type == "cpu" and (within_limit := confinement.free_bytes()) is not None:
            left = min(left, within_limit)
        # A quarter of what is left: a figure in a table is no reason to run out of memory.
        shape = max(1, min(self._size, left // 4) // 4 // ROW), ROW
        numbers = huge_pages.empty(*shape).fill_(1) if place.type == "cpu" else torch.ones(shape, device=place)
        readers: list[Callable[[], object]] = [numbers.sum]
        if has_own_reader(str(place)):
            product, x = kernels.load().linear, torch.ones(1, ROW)
            readers.append(lambda: product(x, numbers))
        return readers, numbers.nbytes


class CeilingMeter:
    """Measures what memory allows a loaded model, as often as it is asked; never to be called on the clock.

    Args:
        size: bytes of weights that one token must read, where that is known.
    """

    def __init__(self, size: int | None, device: str) -> None:
        self._weight_bytes = size
        self._device = device
        self._reader = MemoryReader(self._device, self._weight_bytes or READ_BYTES)

    def ceiling(self) -> Ceiling:
        """What memory allows now: the time of a few tokens, and under a second the first time."""
        speed = self._reader.bytes_per_second()
        reader = "torch or own kernel" if has_own_reader(self._device) else "torch"
        return Ceiling(self._weight_bytes, speed, reader, self._reader.read_bytes)


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

    Of the experts of a mixture these are as many as a token chooses. What reads images and sounds is used with
    a prompt alone.

    Returns:
        `None` where it is not known which weights are experts, or how many of them a token chooses.
    """
    mixture = _Mixture(cast(Any, model.config))
    read: dict[int, float] = {}
    towers = _towers(model)
    for module in model.modules():
        if isinstance(module, (nn.Embedding, QuantizedEmbedding)) or module in towers:
            continue  # one row of a table; where the head shares it, the head counts it
        held: list[torch.Tensor] = list(module.parameters(recurse=False))
        if isinstance(module, QuantizedMatrix):
            held += module.tensors
        share = mixture.share_of(module, held)
        read.update({id(tensor): tensor.nbytes * share for tensor in held})
    return round(sum(read.values())) if mixture.is_known else None


PROJECTORS = ("multi_modal_projector", "connector")
"""What transformers' models call the module between such a tower and the text model."""


def _towers(model: Any) -> set[nn.Module]:
    """The modules by which a multimodal model reads images and sounds."""
    if not hasattr(model, "get_encoder") or "modality" not in inspect.signature(model.get_encoder).parameters:
        return set()
    found = [tower for kind in ("image", "audio") if (tower := model.get_encoder(modality=kind)) is not model]
    if found:
        named = model.named_modules()
        found += [module for name, module in named if name.rpartition(".")[2] in PROJECTORS]
    return {module for tower in found for module in tower.modules()}


class _Mixture:
    """What part of its weights each module of a model reads for a token."""

    COUNTS = "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts"
    CHOICES = "num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts"

    def __init__(self, config: Any) -> None:
        layers = layer_configs(config)
        found = [[_first(layer, names) for layer in layers] for names in (self.COUNTS, self.CHOICES)]
        self._counts, self._choices = ({number for number in numbers if number} for numbers in found)
        self._found = False

    @property
    def is_known(self) -> bool:
        """Whether the model has no experts, or those that were looked at had some."""
        return not self._counts or self._found

    def share_of(self, module: nn.Module, own: list[torch.Tensor]) -> float:
        """Of the weights that a module itself holds; experts hold theirs side by side, in one tensor."""
        side_by_side = is_mixture(module) or any(tensor.dim() == 3 for tensor in own)
        if len(self._counts) != 1 or len(self._choices) != 1 or not (own and side_by_side):
            return 1.0
        (count,), (chosen,) = self._counts, self._choices
        if any(tensor.shape[0] != count for tensor in own):
            return 1.0
        self._found = True
        return min(chosen / count, 1.0)


def _first(config: Any, names: tuple[str, ...]) -> int | None:
    found = (getattr(config, name, None) for name in names)
    return next((number for number in found if isinstance(number, int) and number), None)


def _seconds(read: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    read()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
