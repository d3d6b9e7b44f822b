"""A model whose matrices are held in eight or four bits and multiplied in float32.

What is quantised: every linear layer (transposed ones too), every embedding (scaled ones too), tied ones once,
and the experts of a mixture. Norms, biases, convolutions, position tables that are no plain embedding, what
chooses experts, activations, cache and logits stay in float32. The weights are converted in registers, so that
a pass costs what its bytes cost.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from specbench.engine import kernels
from specbench.engine.mixtures import is_mixture, is_router, matrices, mixed
from specbench.errors import ExitCode, SpecbenchError
from specbench.models.architecture import meta_model

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from specbench.models.loading import LoadedModel

PACK: dict[str, Callable[[torch.Tensor], tuple[torch.Tensor, ...]]] = {
    "int8": kernels.quantize_int8,
    "int4": kernels.quantize_int4,
}
UNPACK: dict[str, Callable[..., torch.Tensor]] = {
    "int8": kernels.dequantize_int8,
    "int4": kernels.dequantize_int4,
}
# Modules whose own weights stay in float32: they are small, or one row of them is read.
KEPT = (nn.Embedding, nn.modules.conv._ConvNd)
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
        held: Any = self._buffers  # none is None: they come with the module
        return tuple(held[name] for name in self._names)


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
    """In place of `nn.Embedding`: token ids [...] -> float32 [..., k].

    Args:
        embed_scale: what the rows are multiplied by, if anything.
    """

    def __init__(self, kind: str, tensors: tuple[torch.Tensor, ...], embed_scale: float | None = None) -> None:
        super().__init__(kind, tensors)
        self.embed_scale = embed_scale

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """The rows of these tokens, in float32."""
        rows = (tensor[token_ids.reshape(-1)] for tensor in self.tensors)
        found = UNPACK[self.kind](*rows).view(*token_ids.shape, -1)
        return found if self.embed_scale is None else found * self.embed_scale


class QuantizedExperts(nn.Module):
    """In place of the experts of a mixture, of which a token reads those that it chose.

    Args:
        kind: as of `QuantizedMatrix`; a row of a matrix is an output of one expert.
        experts: their module, whose matrices are taken out, one at a time.
    """

    def __init__(self, kind: str, experts: nn.Module) -> None:
        super().__init__()
        self.experts = experts
        self._product = getattr(kernels.load(), f"experts_{kind}").default
        for name, weights in matrices(experts).items():
            delattr(experts, name)
            tensors = zip(*(PACK[kind](weight) for weight in weights), strict=True)
            self.add_module(name, QuantizedMatrix(kind, tuple(torch.stack(each) for each in tensors)))

    def forward(self, hidden_states: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """As of `mixtures.mixed`."""

        def product(x: torch.Tensor, chosen: torch.Tensor, name: str) -> torch.Tensor:
            held: Any = self.get_submodule(name)
            return self._product(x, chosen, *held.tensors)

        return mixed(self.experts, hidden_states, chosen, weights, product)


def demand_quantizable(config: PretrainedConfig, folder: Path, kind: str) -> None:
    """Refuse a model that `quantize` would refuse, before its weights are read.

    Raises:
        SpecbenchError: naming the tensor that stands in the way.
    """
    reason = _obstacle(meta_model(config, "float32"), kind)
    if reason:
        raise _cannot(folder, reason)


def quantize(loaded: LoadedModel, kind: str) -> LoadedModel:
    """Replace every matrix of a loaded float32 model, in place, one at a time.

    Raises:
        SpecbenchError: no compiler, a layer that cannot be quantised, or rows that are not whole groups.
    """
    kernels.load()
    model = loaded.model
    done: dict[int, tuple[torch.Tensor, tuple[torch.Tensor, ...]]] = {}
    reason = _obstacle(model, kind)
    if reason:
        raise _cannot(loaded.folder, reason)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if is_mixture(child):
                setattr(parent, name, QuantizedExperts(kind, child).eval())
            if not _is_matrix(child):
                continue
            weight = child.weight
            if id(weight) not in done:
                done[id(weight)] = weight, PACK[kind](_rows(child))  # holding it keeps its id its own
            tensors = done[id(weight)][1]
            quantised = (
                QuantizedEmbedding(kind, tensors, _scale(child, loaded.folder))
                if isinstance(child, nn.Embedding)
                else QuantizedLinear(kind, tensors, child.bias)
            )
            setattr(parent, name, quantised.eval())
    return dataclasses.replace(loaded, quantization=kind)


def _obstacle(model: nn.Module, kind: str) -> str | None:
    """Why a model cannot be quantised; `None` when it can."""
    strange: list[str] = []
    for path, module in model.named_modules():
        widths = [weight.shape[2] for weight in matrices(module).values()] if is_mixture(module) else []
        if _is_matrix(module):
            widths = [module.weight.shape[0 if isinstance(module, Conv1D) else 1]]
        if kind == "int4" and (odd := [width for width in widths if width % kernels.GROUP]):
            return f"rows of {odd[0]} weights are not whole groups of {kernels.GROUP}"
        if not (widths or isinstance(module, KEPT) or is_router(module)):
            own = module.named_parameters(recurse=False)
            strange += [f"{path}.{name}" for name, tensor in own if tensor.dim() > 1]
    experts = next((name for name in strange if ".experts." in name), None)
    if experts:
        return f"its experts are no layers of their own ({experts})"
    return f"{strange[0]} is neither a linear layer nor an embedding" if strange else None


def _is_matrix(module: nn.Module) -> TypeGuard[nn.Embedding | nn.Linear | Conv1D]:
    """Whether a module looks rows up in a matrix, or multiplies by it, and does nothing else but scale them."""
    if isinstance(module, nn.Embedding):
        return type(module).forward is nn.Embedding.forward or hasattr(module, "embed_scale")
    return isinstance(module, Conv1D) or (isinstance(module, nn.Linear) and is_linear(type(module)))


def is_linear(kind: type[nn.Linear]) -> bool:
    """Whether a class of linear layers computes what `nn.Linear` does: told by its code, or by a small one."""
    known: Any = kind  # to mypy, no class of modules can be hashed
    return _is_linear(known)


@functools.cache
def _is_linear(kind: type[nn.Linear]) -> bool:
    if kind.forward is nn.Linear.forward:
        return True
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            sample, x = kind(5, 3), torch.arange(10.0).view(2, 5)
            return torch.allclose(sample(x), nn.functional.linear(x, sample.weight, sample.bias))
    except Exception:  # it is made otherwise, or returns something else
        return False


def _rows(module: nn.Embedding | nn.Linear | Conv1D) -> torch.Tensor:
    """The matrix with a row for each output, or each token."""
    weight = module.weight.detach()
    return weight.T.contiguous() if isinstance(module, Conv1D) else weight


def _scale(embedding: nn.Embedding, folder: Path) -> float | None:
    """What an embedding multiplies its rows by.

    Raises:
        SpecbenchError: it does something else with them.
    """
    if not hasattr(embedding, "embed_scale"):
        return None
    given: Any = embedding.embed_scale
    scale, ids = float(given), torch.arange(min(2, embedding.num_embeddings))
    if not torch.allclose(embedding(ids), embedding.weight[ids] * scale):
        raise _cannot(folder, f"a {type(embedding).__name__} does more than scale its rows")
    return scale


def _cannot(folder: Path, reason: str) -> SpecbenchError:
    return SpecbenchError(
        f"model {folder} cannot be quantised: {reason}", "remove edge.quantization", ExitCode.MODEL
    )
