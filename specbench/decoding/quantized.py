"""A model whose matrices are held in eight or four bits and multiplied in float32.

What is quantised: every linear layer and every embedding, tied ones once. Norms, biases, activations, cache
and logits stay in float32. The weights are converted in registers, so that a pass costs what its bytes cost.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import nn

from specbench.decoding import kernels
from specbench.errors import ExitCode, SpecbenchError

if TYPE_CHECKING:
    from specbench.models.loading import LoadedModel

PACK = {"int8": kernels.quantize_int8, "int4": kernels.quantize_int4}
UNPACK = {"int8": kernels.dequantize_int8, "int4": kernels.dequantize_int4}
TENSOR_NAMES = ("weight", "scales", "offsets")  # int8 has no offsets


class QuantizedMatrix(nn.Module):
    """The tensors that stand for one float32 matrix, shared by all that use it.

    Args:
        kind: `int8` (a scale per row) or `int4` (a scale and an offset per 32 weights of a row).
        tensors: what `kernels.quantize_int8` or `quantize_int4` made of the matrix.
    """

    def __init__(self, kind: str, tensors: tuple[torch.Tensor, ...]) -> None:
        super().__init__()
        self.kind = kind
        self._names = TENSOR_NAMES[: len(tensors)]
        for name, tensor in zip(self._names, tensors, strict=True):
            self.register_buffer(name, tensor, persistent=False)

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Weights and their scales (and offsets), in the kernels' order."""
        return tuple(self._buffers[name] for name in self._names)


class QuantizedLinear(QuantizedMatrix):
    """In place of `nn.Linear`: x float32 [..., k] -> float32 [..., o], rows independent of one another."""

    def __init__(self, kind: str, tensors: tuple[torch.Tensor, ...], bias: torch.Tensor | None) -> None:
        super().__init__(kind, tensors)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self._product = getattr(kernels.load(), f"linear_{kind}").default

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The product with the weights that the tensors stand for, and the bias."""
        product = self._product(x, *self.tensors)
        return product if self.bias is None else product + self.bias


class QuantizedEmbedding(QuantizedMatrix):
    """In place of `nn.Embedding`: token ids [...] -> float32 [..., k]."""

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """The rows of these tokens, in float32."""
        rows = (tensor[token_ids.reshape(-1)] for tensor in self.tensors)
        return UNPACK[self.kind](*rows).view(*token_ids.shape, -1)


def quantize(loaded: LoadedModel, kind: str) -> LoadedModel:
    """Replace every matrix of a loaded float32 model, in place, one at a time.

    Raises:
        SpecbenchError: no compiler, a layer that cannot be quantised, or rows that are not whole groups.
    """
    kernels.load()
    model, done = loaded.model, {}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) not in (nn.Linear, nn.Embedding):
                continue
            weight = child.weight
            if id(weight) not in done:
                if kind == "int4" and weight.shape[1] % kernels.GROUP:
                    raise _cannot(loaded, f"rows of {weight.shape[1]} weights are not whole groups of 32")
                done[id(weight)] = weight, PACK[kind](weight.detach())  # holding it keeps its id its own
            tensors = done[id(weight)][1]
            quantised = (
                QuantizedLinear(kind, tensors, child.bias)
                if isinstance(child, nn.Linear)
                else QuantizedEmbedding(kind, tensors)
            )
            setattr(parent, name, quantised.eval())
    left = next((name for name, tensor in model.named_parameters() if tensor.dim() > 1), None)
    if left:
        raise _cannot(loaded, f"{left} is neither a plain linear layer nor a plain embedding")
    return dataclasses.replace(loaded, quantization=kind)


def _cannot(loaded: LoadedModel, reason: str) -> SpecbenchError:
    return SpecbenchError(
        f"model {loaded.folder} cannot be quantised: {reason}", "drop edge.quantization", ExitCode.MODEL
    )
