"""Which kernel multiplies a few rows with a weight matrix: measured on the machine at hand, kept on disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch

from specbench.clock import now_ms
from specbench.models.embedded import cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128)
REPEATS = 9
CLEARLY = 1.1  # torch's product must win by this factor: noise should not choose
AT_MOST = 8  # matrices of one shape that are read in turn, so that none is still in the processor's cache


def widest_by_shape(weights: Iterable[torch.Tensor], key: str) -> dict[tuple[int, ...], int]:
    """Up to how many rows `specbench::linear` is at least as fast as torch's own product, by weight shape.

    Args:
        key: names the machine, versions and shapes; a choice is made once for each.
    """
    groups: dict[tuple[int, ...], list[torch.Tensor]] = {}
    for weight in weights:
        groups.setdefault(tuple(weight.shape), []).append(weight)
    path = cache_folder() / "compiled" / f"{key}.kernels.json"
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        return {shape: known[str(list(shape))] for shape in groups}
    chosen = {shape: _widest(group[:AT_MOST]) for shape, group in groups.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({str(list(shape)): widest for shape, widest in chosen.items()}), encoding="utf-8"
    )
    return chosen


@torch.inference_mode()
def _widest(weights: list[torch.Tensor]) -> int:
    """The last width before torch's own product is faster."""
    widest = 0
    for width in WIDTHS:
        x = torch.ones(width, weights[0].shape[1])
        kernels = torch.ops.specbench.linear, torch.nn.functional.linear
        # Interleaved, and the best of several: whatever else the machine does only ever adds time.
        times = [[_time(kernel, x, weights) for kernel in kernels] for _ in range(REPEATS)]
        ours, theirs = (min(column) for column in zip(*times, strict=True))
        if ours > CLEARLY * theirs:
            break
        widest = width
    return widest


def _time(product: object, x: torch.Tensor, weights: list[torch.Tensor]) -> float:
    started = now_ms()
    for weight in weights:
        product(x, weight)
    return now_ms() - started
