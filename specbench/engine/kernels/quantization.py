"""Weights in eight or four bits, in the layout that the kernels read."""

from __future__ import annotations

import torch

GROUP = 32  # weights that share a scale and an offset in four bits


def quantize_int8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round each row of `weight` [o, k] to 255 steps of its largest magnitude.

    Returns:
        Weights int8 [o, k] and scales float32 [o].
    """
    weight = weight.float()
    scales = weight.abs().amax(dim=1) / 127
    steps = weight / scales.clamp_min(torch.finfo(torch.float32).tiny).unsqueeze(1)
    return steps.round().clamp(-127, 127).to(torch.int8), scales


def dequantize_int8(weight: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """The float32 weights [o, k] that int8 weights stand for."""
    return weight.float() * scales.unsqueeze(1)


def quantize_int4(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Round each group of 32 weights along the rows of `weight` [o, k] to 16 steps, least to largest.

    Returns:
        Packed codes uint8 [o, k/2], scales and offsets float16 [o, k/32].

    Raises:
        ValueError: k is no multiple of 32.
    """
    outputs, k = weight.shape
    if k % GROUP:
        raise ValueError(f"rows of {k} weights are not whole groups of {GROUP}")
    groups = weight.float().view(outputs, k // GROUP, GROUP)
    least, largest = groups.aminmax(dim=2)
    # Codes are chosen for the scale and offset as they are stored, not as they were before rounding.
    scales, offsets = ((largest - least) / 15).half(), least.half()
    steps = (groups - offsets.float().unsqueeze(2)) / scales.float().clamp_min(1e-12).unsqueeze(2)
    codes = steps.round().clamp(0, 15).to(torch.uint8)
    packed = codes[..., : GROUP // 2] | codes[..., GROUP // 2 :] << 4
    return packed.view(outputs, k // 2).contiguous(), scales, offsets


def dequantize_int4(packed: torch.Tensor, scales: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """The float32 weights [o, k] that packed codes stand for."""
    outputs, groups = scales.shape
    halves = packed.view(outputs, groups, GROUP // 2)
    codes = torch.cat([halves & 15, halves >> 4], dim=2).float()
    return (offsets.float().unsqueeze(2) + scales.float().unsqueeze(2) * codes).view(outputs, -1)
