"""How far rounding alone can move a model's scores, measured by Monte Carlo arithmetic.

A difference between two ways of computing one position is noise only where rounding explains it. Rounding is
judged by the model itself: a pass over the whole text, without a cache, is repeated while the output of every
layer, projection and norm is multiplied by 1 + u, u drawn anew for each number, up to `ULPS` units in the last
place either way (Parker 1997, Monte Carlo Arithmetic). What the scores then move by depends on the dtype, on
depth and width, and on whatever makes this model sensitive at this position: a router that is nearly tied, a
value next to a quantisation step. No cache has a part in it, so a cache that is wrong cannot widen the bound,
and no second copy of the weights is needed: it holds for every dtype, and for quantised weights.

`ULPS` says what one operation may be off by. In float16 and bfloat16 a product is summed in float32 and rounded
once, by half a unit; 4 leaves room for sums that are split and rounded more than once. In float32 and float64
the sums themselves round: over K terms the error grows with the square root of the length of a partial sum, so
16 units. Measured on random models of 20 architectures and on a trained one of 135 million parameters, real
differences between widths, engines and passes with and without a cache are at most 1.5 times what one unit does
in float32 and float64, and at most 0.8 times in float16 and bfloat16. Norms and rotary tables are computed in
float32 in every model, so units are never smaller than float32's; with TF32 allowed they are TF32's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from specbench.engine.base import Engine
    from specbench.models.media import Media

SAMPLES = 4
ULPS = {torch.float16: 4, torch.bfloat16: 4}
ULPS_WHERE_SUMS_ROUND = 16
TF32_EPS = 2.0**-10


@torch.inference_mode()
def disturbed(
    engine: Engine, token_ids: Sequence[int], count: int, media: Media | None = None
) -> Iterator[torch.Tensor]:
    """What a pass without a cache gives when every operation rounds otherwise, `SAMPLES` times.

    Args:
        count: of how many tokens, the last ones, the logits are wanted; as for `Engine.recompute`.
        media: what the tokens have placeholders for.
    """
    for seed in range(SAMPLES):
        with _rounding_otherwise(engine.loaded.model, seed):
            yield engine.recompute(token_ids, count, media)


def largest_move(
    engine: Engine,
    token_ids: Sequence[int],
    scores: torch.Tensor,
    compared: Callable[[torch.Tensor], torch.Tensor],
    media: Media | None = None,
) -> float:
    """The most by which rounding moves any score behind `token_ids`.

    Args:
        scores: of the undisturbed pass, shape (vocabulary,).
        compared: from logits of that row to its scores.
        media: what the tokens have placeholders for.
    """
    moves = []
    for rows in disturbed(engine, token_ids, 1, media):
        moved = compared(rows[-1]).double()
        known = moved.isfinite() & scores.isfinite()
        moves.append(float((moved - scores)[known].abs().max()))
    return max(moves)


def unit(dtype: torch.dtype) -> float:
    """By what share a number of this dtype may be off behind one operation."""
    least = TF32_EPS if torch.get_float32_matmul_precision() != "highest" else torch.finfo(torch.float32).eps
    return max(torch.finfo(dtype).eps, least) * ULPS.get(dtype, ULPS_WHERE_SUMS_ROUND)


@contextmanager
def _rounding_otherwise(model: torch.nn.Module, seed: int) -> Iterator[None]:
    """Move what layers and modules with weights of their own give; embeddings are looked up, and exact."""
    generators: dict[torch.device, torch.Generator] = {}

    def moved(tensor: object) -> object:
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            return tensor
        device = tensor.device
        generator = generators.setdefault(device, torch.Generator(device).manual_seed(seed))
        wide = tensor if tensor.dtype.itemsize > 2 else tensor.float()
        share = torch.rand(wide.shape, generator=generator, device=device, dtype=wide.dtype)
        return (wide + wide * (unit(tensor.dtype) * (2 * share - 1))).to(tensor.dtype)

    def hook(module: object, arguments: object, output: object) -> object:
        return (moved(output[0]), *output[1:]) if type(output) is tuple and output else moved(output)

    layers = {part for group in model.modules() if isinstance(group, torch.nn.ModuleList) for part in group}
    handles = [
        part.register_forward_hook(hook)
        for part in model.modules()
        if part in layers or (part._parameters and not isinstance(part, torch.nn.Embedding))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
