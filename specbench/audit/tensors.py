"""A model's tensors by name, and how they are counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from specbench.records import TensorGroup

if TYPE_CHECKING:
    import torch

    Named = list[tuple[str, torch.Tensor]]


def parameters_of(model: torch.nn.Module) -> Named:
    """The parameters, of which this process may hold a share."""
    return [(name, _share(tensor)) for name, tensor in model.named_parameters()]


def buffers_of(model: torch.nn.Module) -> Named:
    """The buffers, and what modules keep as plain attributes."""
    return [*model.named_buffers(), *_unregistered(model)]


def _share(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor that is split over ranks."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def is_floating_point(tensor: torch.Tensor) -> bool:
    """Whether a tensor has a precision: real or complex numbers, and no integers or truth values."""
    return tensor.is_floating_point() or tensor.is_complex()


def _unregistered(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors that a module keeps as plain attributes, where neither parameters nor buffers list them."""
    import torch

    for module_name, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                yield f"{module_name}.{name}".lstrip("."), value


def groups_of(tensors: Iterable[tuple[str, torch.Tensor]]) -> tuple[TensorGroup, ...]:
    """Tensors by dtype: how many, how large, and the first one's name."""
    groups: dict[str, TensorGroup] = {}
    for name, tensor in tensors:
        groups = counted(groups, name, dtype_of(tensor), tensor.numel() * tensor.element_size())
    return tuple(groups.values())


def counted(groups: dict[str, TensorGroup], name: str, dtype: str, size: int) -> dict[str, TensorGroup]:
    """The groups with one tensor more."""
    known = groups.get(dtype, TensorGroup(dtype=dtype, tensors=0, bytes=0, first=name))
    return {**groups, dtype: TensorGroup(dtype, known.tensors + 1, known.bytes + size, known.first)}


def dtype_of(tensor: torch.Tensor) -> str:
    """The dtype; a tensor subclass may hold something else than it says, so its class is named too."""
    import torch

    kind = type(tensor.data)
    return (
        dtype_name(tensor.dtype) if kind is torch.Tensor else f"{dtype_name(tensor.dtype)} in {kind.__name__}"
    )


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype as profiles call it."""
    return str(dtype).removeprefix("torch.")
