"""Precision as it is: every parameter, buffer, logit and cache tensor of a loaded model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from specbench.models import storage
from specbench.precision.declared import in_words
from specbench.precision.finite_logits import logits_problem
from specbench.precision.tensors import (
    buffers_of,
    counted,
    dtype_name,
    dtype_of,
    groups_of,
    is_floating_point,
    made_by_architecture,
    parameters_of,
)
from specbench.results.records import Audit, TensorGroup

if TYPE_CHECKING:
    import torch

    from specbench.engine.base import Engine


def audit_model(role: str, name: str, engine: Engine, quantization: str | None = None) -> Audit:
    """Look at every tensor of a model, after one real forward pass of two tokens.

    Args:
        quantization: how the profile wants the weights quantised; integers are then as they should be.
    """
    loaded = engine.loaded
    model = loaded.model
    session = engine.session()
    logits = session.extend([0, 0])
    parameters, buffers, cache = parameters_of(model), buffers_of(model), list(session.tensors())
    declared = dtype_name(loaded.dtype)
    odd = [
        (tensor_name, tensor)
        for tensor_name, tensor in [*parameters, *buffers, *cache, ("logits", logits)]
        if is_floating_point(tensor) and dtype_of(tensor) != declared
    ]
    integers = [pair for pair in parameters + buffers if _is_integer_weight(pair[1])]
    packed = _packed(model)
    told = quantization or storage.quantization(loaded.folder)
    own = made_by_architecture(engine) if odd or (integers and not told) else {}
    integers = [pair for pair in integers if own.get(pair[0]) != dtype_of(pair[1])]  # others are bookkeeping
    by_design = [
        (tensor_name, tensor)
        for tensor_name, tensor in odd
        if own.get(tensor_name) == dtype_of(tensor) or _is_kept_wide(model, tensor_name, tensor, declared)
    ]
    fair = {tensor_name for tensor_name, _ in by_design}
    if told:  # scales and offsets beside integers may be narrower than what is computed in
        holders = {_owner(tensor_name) for tensor_name, _ in integers}
        fair |= {tensor_name for tensor_name, _ in parameters + buffers if _owner(tensor_name) in holders}
    wrong = [pair for pair in odd if pair[0] not in fair]
    unexpected = groups_of(wrong) + (() if told else groups_of(integers) + packed)
    return Audit(
        role=role,
        model=name,
        device=_places(model) or str(loaded.device),
        declared=in_words(declared, quantization),
        vocabulary_size=engine.known_tokens,
        parameters=groups_of(parameters) + packed,
        buffers=groups_of(buffers),
        logits=dtype_name(logits.dtype),
        cache=groups_of(cache),
        stored=storage.stored_as(loaded.folder),
        problem=problem_of(role, declared, unexpected),
        logits_problem=logits_problem(role, logits, parameters, declared),
        wrong=unexpected,
        integers=groups_of(integers) + packed,
        widened=groups_of(pair for pair in by_design if _is_finer(pair[1], loaded.dtype)),
        narrowed=groups_of(pair for pair in by_design if not _is_finer(pair[1], loaded.dtype)),
        quantization=told,
        adapters=(*storage.adapters(loaded.folder), *_adapter_layers(model)),
        tied=tuple(_tied(model)),
        offloaded=groups_of((n, tensor) for n, tensor in parameters + buffers if tensor.device.type == "meta"),
        attention=str(getattr(model.config, "_attn_implementation", None) or "its own"),
    )


def problem_of(role: str, declared: str, wrong: tuple[TensorGroup, ...]) -> str | None:
    """A sentence on tensors that are not in the declared dtype; `None` where all are."""
    if not wrong:
        return None
    count = sum(group.tensors for group in wrong)
    return f"{role}: {wrong[0].first} is {wrong[0].dtype}, declared is {declared} ({count} tensors differ)"


def _is_finer(tensor: torch.Tensor, declared: torch.dtype) -> bool:
    import torch

    return torch.finfo(tensor.dtype).eps < torch.finfo(declared).eps


def _is_kept_wide(model: torch.nn.Module, name: str, tensor: torch.Tensor, declared: str) -> bool:
    """Whether transformers loads this tensor in float32 by a rule of the model's class."""
    if dtype_of(tensor) != "float32" or declared not in ("float16", "bfloat16"):
        return False
    kept = set(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    if declared == "float16":
        kept |= set(getattr(model, "_keep_in_fp32_modules", None) or ())
    return any(part in name for part in kept)


def _places(model: torch.nn.Module) -> str | None:
    """The devices of a model that is spread over several, and the disk where some of it lies there."""
    places = dict.fromkeys(map(str, getattr(model, "hf_device_map", {}).values()))
    named = [f"cuda:{place}" if place.isdigit() else place for place in places]
    return ", ".join(named) if len(named) > 1 else None


def _owner(name: str) -> str:
    return name.rpartition(".")[0]


def _is_integer_weight(tensor: torch.Tensor) -> bool:
    """Matrices of narrow integers are quantised weights; masks are boolean, position ids are int64."""
    return (
        tensor.dim() >= 2
        and dtype_name(tensor.dtype) not in ("bool", "int64")
        and not is_floating_point(tensor)
    )


def _packed(model: torch.nn.Module) -> tuple[TensorGroup, ...]:
    """Weights of torch's own quantised layers, which are packed out of sight of parameters and buffers."""
    groups: dict[str, TensorGroup] = {}
    for name, module in model.named_modules():
        if hasattr(module, "_packed_params") and callable(getattr(module, "weight", None)):
            weight = module.weight()
            groups = counted(groups, f"{name}.weight", dtype_of(weight), weight.numel() * weight.element_size())
    return tuple(groups.values())


def _adapter_layers(model: torch.nn.Module) -> Iterator[str]:
    """Adapter layers that PEFT has put into the model, by kind."""
    found = [
        (name, type(module).__name__)
        for name, module in model.named_modules()
        if type(module).__module__.startswith("peft.tuners.") and hasattr(module, "base_layer")
    ]
    if found:
        yield f"{len(found)} adapter layers in the loaded model, the first is {found[0][0]} ({found[0][1]})"


def _tied(model: torch.nn.Module) -> Iterator[str]:
    """Names that stand for a tensor which has another name already."""
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        known = first.setdefault(id(parameter), name)
        if known != name:
            yield f"{name} = {known}"
