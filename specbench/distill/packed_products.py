"""Linear layers of a bfloat16 model on the CPU, their weights laid out once as its instructions read them.

Otherwise each product of a pass begins with laying out its weight anew.
"""

from __future__ import annotations

import platform

import torch
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """A linear layer for inference.

    Args:
        rows: about how many are multiplied at a time.
    """

    def __init__(self, linear: nn.Linear, rows: int) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), rows)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, read: Tensor) -> Tensor:
        """The product."""
        return torch.ops.mkldnn._linear_pointwise(read, self._weight, self._bias, "none", [], "")


def pack(model: nn.Module, rows: int) -> None:
    """Exchange the linear layers in bfloat16, where oneDNN has a layout for them; for inference only."""
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
        return
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and child.weight.dtype == torch.bfloat16:
                setattr(module, name, PackedLinear(child, rows))
