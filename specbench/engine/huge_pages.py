"""Weights in huge pages: memory is read at its full speed only where addresses are found as fast.

A processor that reads a weight once looks up each 4 KB page of it; with pages of 2 MB there is little to look
up. Linux gives them to who asks (`MADV_HUGEPAGE`); elsewhere this is ordinary memory.
"""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Iterable

import torch

ALIGNMENT = 64  # a line of the cache
SMALLEST = 1 << 16  # bytes; what is smaller stays where it is


def empty(*shape: int) -> torch.Tensor:
    """A float32 tensor of the CPU, uninitialised, in huge pages where the system has them."""
    return torch.frombuffer(_memory(math.prod(shape) * 4), dtype=torch.float32).view(shape)


@torch.no_grad()
def move(tensors: Iterable[torch.Tensor]) -> None:
    """Move large tensors on the CPU into huge pages, one after the other; each stays the same tensor object.

    Tensors that share their memory still do, where they are equal in shape.
    """
    groups: dict[tuple, list[torch.Tensor]] = {}
    for tensor in {id(tensor): tensor for tensor in tensors}.values():
        if tensor.device.type == "cpu" and tensor.is_contiguous() and tensor.nbytes >= SMALLEST:
            groups.setdefault((tensor.data_ptr(), tensor.dtype, tensor.shape), []).append(tensor)
    sizes = [-(-group[0].nbytes // ALIGNMENT) * ALIGNMENT for group in groups.values()]
    if not sizes:
        return
    memory, at = _memory(sum(sizes)), 0
    for group, size in zip(groups.values(), sizes, strict=True):
        old = group[0]
        moved = torch.frombuffer(memory, dtype=old.dtype, count=old.numel(), offset=at).view(old.shape)
        moved.copy_(old)
        for tensor in group:
            tensor.data = moved
        at += size


def _memory(count: int) -> mmap.mmap | bytearray:
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return bytearray(count)
    # Shared memory, which is what mmap makes unless told otherwise, has no huge pages.
    memory = mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
