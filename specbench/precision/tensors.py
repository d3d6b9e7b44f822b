"""A model's tensors by name, how they are counted, and which dtypes its architecture itself gives them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from specbench.results.records import TensorGroup

if TYPE_CHECKING:
    import torch

    from specbench.engine.base import Engine

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


def made_by_architecture(engine: Engine) -> dict[str, str]:
    """The dtype of every tensor of this architecture, logits and cache included, by name.

    The model's class is built anew from its configuration in the declared dtype, on the meta device: shapes and
    dtypes without numbers. Then it reads two tokens. Nothing that was done to the loaded model is in it. Where
    its pass cannot run there, logits and cache are left out; where it cannot be built, everything is. Keys and
    values are never in it: a cache holds them as the model computes, unless somebody exchanged the cache.
    """
    import torch

    from specbench.engine.eager import EagerEngine
    from specbench.models.library import quiet_transformers

    loaded = engine.loaded
    config = copy.deepcopy(loaded.model.config)
    config._experts_implementation = "batched_mm"  # the one that runs on the meta device in every dtype
    made: Named = []
    try:  # the architecture's own code, which may raise anything
        with torch.device("meta"), quiet_transformers():
            model = type(loaded.model)._from_config(config, dtype=loaded.dtype).eval()
    except Exception:  # nothing is excused then, and the audit stays strict
        return {}
    try:
        shape = replace(loaded, model=model, device=torch.device("meta"))
        session = EagerEngine(shape, engine.vocabulary_size, engine.draft_vocabulary).session()
        made.append(("logits", session.extend([0, 0])))
        made += [pair for pair in session.tensors() if not pair[0].endswith((".keys", ".values"))]
    except Exception:  # logits and states are not excused then; parameters and buffers were made
        made.clear()
    return {name: dtype_of(tensor) for name, tensor in [*made, *parameters_of(model), *buffers_of(model)]}
