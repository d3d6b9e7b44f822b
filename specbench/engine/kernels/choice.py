"""Which kernel multiplies a few rows with a weight matrix, and how: measured on this machine, kept on disk."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import torch

from specbench.atomic import write_json
from specbench.clock import now_ms
from specbench.engine import kernels
from specbench.engine.program_cache import mark_used, program_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128)
ROUNDS = 12
CLEARLY = 1.1  # torch's product must win by this factor: noise should not choose
AT_MOST = 8  # matrices of one shape that are read in turn, so that none is still in the processor's cache
LARGE = 64 << 20  # bytes; smaller weights may stay in a cache, where the order of reading does not matter


def widest_by_shape(weights: Iterable[torch.Tensor], key: str) -> dict[tuple[int, ...], int]:
    """Up to how many rows `specbench::linear` is at least as fast as torch's own product, by weight shape.

    Args:
        key: names the machine, versions and shapes; a choice is made once for each, and anew only when one of
            them changes or its file is deleted or damaged: other choices would mean another program.
    """
    groups: dict[tuple[int, ...], list[torch.Tensor]] = {}
    for weight in weights:
        groups.setdefault(tuple(weight.shape), []).append(weight)
    path = program_folder() / f"{key}.kernels.json"
    if path.is_file() and (known := _read(path, groups)):
        mark_used(path)
        return known
    chosen = {shape: widest(_advantages(group[:AT_MOST])) for shape, group in groups.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {str(list(shape)): rows for shape, rows in chosen.items()}, indent=0)
    return chosen


def settle_reading(weights: Iterable[torch.Tensor]) -> None:
    """Have a row of x meet float32 weights row by row where this machine reads them faster so.

    It is measured once for a machine and number of threads, on the first model whose weights are large. The
    products have the same bits either way.
    """
    path = program_folder() / f"{kernels.library().stem}-{torch.get_num_threads()}.kernels.json"
    one_by_one = _known_reading(path)
    if one_by_one is None:
        some = _first_bytes(weights, LARGE)
        if not some:
            return
        one_by_one = _is_faster_one_by_one(some)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"one_by_one": one_by_one}, indent=0)
    mark_used(path)
    torch.ops.specbench.read_one_by_one(one_by_one)


def _known_reading(path: Path) -> bool | None:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["one_by_one"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if isinstance(known, bool) else None


def _first_bytes(weights: Iterable[torch.Tensor], wanted: int) -> list[torch.Tensor]:
    """The first matrices that have so many bytes together; empty where all have fewer."""
    found: list[torch.Tensor] = []
    for weight in weights:
        found.append(weight)
        wanted -= weight.nbytes
        if wanted <= 0:
            return found
    return []


@torch.inference_mode()
def _is_faster_one_by_one(weights: Sequence[torch.Tensor]) -> bool:
    best = {True: math.inf, False: math.inf}
    for _ in range(ROUNDS):
        for on in best:
            torch.ops.specbench.read_one_by_one(on)
            started = now_ms()
            for weight in weights:
                torch.ops.specbench.linear(torch.ones(1, weight.shape[1]), weight)
            best[on] = min(best[on], now_ms() - started)
    return best[True] < best[False]


def _read(path: Path, shapes: Iterable[tuple[int, ...]]) -> dict[tuple[int, ...], int] | None:
    """What was chosen for these shapes; `None` where the file does not say it of all."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        found = {shape: known[str(list(shape))] for shape in shapes}
    except (ValueError, KeyError, TypeError):
        return None
    return found if all(rows in (0, *WIDTHS) for rows in found.values()) else None


@torch.inference_mode()
def _advantages(weights: list[torch.Tensor]) -> list[float]:
    """Time of `specbench::linear` over that of torch's own product, for each of `WIDTHS`.

    Rounds go over all widths and both products in turn, and the best of all rounds counts: whatever else the
    machine does only ever adds time, and does not stay away from one width for long.
    """
    products: tuple[Callable, Callable] = torch.ops.specbench.linear, torch.nn.functional.linear
    inputs = [torch.ones(width, weights[0].shape[1]) for width in WIDTHS]
    best = [[math.inf, math.inf] for _ in WIDTHS]
    for _ in range(ROUNDS):
        for x, times in zip(inputs, best, strict=True):
            for which, product in enumerate(products):
                times[which] = min(times[which], _time(product, x, weights))
    return [ours / theirs for ours, theirs in best]


def widest(ratios: Sequence[float]) -> int:
    """Where to change from one product to the other, so that all widths together lose least.

    A single width that was measured wrongly is outvoted by the others, and torch's product must win clearly.

    Args:
        ratios: time of `specbench::linear` over that of torch's product, for each of `WIDTHS`.
    """
    losses = [math.log(ratio / CLEARLY) for ratio in ratios]
    count = min(range(len(WIDTHS) + 1), key=lambda count: (sum(losses[:count]), -count))
    return WIDTHS[count - 1] if count else 0


def _time(product: Callable, x: torch.Tensor, weights: list[torch.Tensor]) -> float:
    started = now_ms()
    for weight in weights:
        product(x, weight)
    return now_ms() - started
