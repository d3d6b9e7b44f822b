"""Precision as it is: every parameter, buffer, logit and cache tensor of a loaded model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from specbench.audit.declared import in_words
from specbench.audit.finite import logits_problem
from specbench.models import storage
from specbench.records import Audit, TensorGroup

if TYPE_CHECKING:
    import torch

    from specbench.decoding.engine import Engine

    Named = list[tuple[str, torch.Tensor]]

# Position tables stay in float32 whatever the model's dtype, on purpose: they are inputs of cos and sin,
# whose results are cast.
POSITION_TABLES = "inv_freq"


def audit_model(role: str, name: str, engine: Engine, quantization: str | None = None) -> Audit:
    """Look at every tensor of a model, after one real forward pass of two tokens.

    Args:
        quantization: how the profile wants the weights quantised; integers are then as they should be.
    """
    loaded = engine.loaded
    model = loaded.model
    session = engine.session()
    logits = session.extend([0, 0])
    parameters = [(tensor_name, _share(tensor)) for tensor_name, tensor in model.named_parameters()]
    buffers = [*model.named_buffers(), *_unregistered(model)]
    cache = list(session.tensors())
    declared = _name(loaded.dtype)
    widened = [pair for pair in parameters + buffers if _is_kept_wide(model, *pair, declared)]
    integers = [pair for pair in parameters + buffers if _is_integer_weight(pair[1])]
    packed = _packed(model)
    told = quantization or storage.quantization(loaded.folder)
    fair = {tensor_name for tensor_name, _ in widened}
    if told:  # scales and offsets beside integers may be narrower than what is computed in
        holders = {_owner(tensor_name) for tensor_name, _ in integers}
        fair |= {tensor_name for tensor_name, _ in parameters + buffers if _owner(tensor_name) in holders}
    wrong = [
        (tensor_name, tensor)
        for tensor_name, tensor in [*parameters, *buffers, *cache, ("logits", logits)]
        if _is_floating_point(tensor) and _dtype(tensor) != declared and tensor_name not in fair
    ]
    unexpected = _groups(wrong) + (() if told else _groups(integers) + packed)
    return Audit(
        role=role,
        model=name,
        device=_places(model) or str(loaded.device),
        declared=in_words(declared, quantization),
        vocabulary_size=engine.speakable_tokens,
        parameters=_groups(parameters) + packed,
        buffers=_groups(buffers),
        logits=_name(logits.dtype),
        cache=_groups(cache),
        stored=storage.stored_as(loaded.folder),
        problem=_problem(role, declared, unexpected),
        logits_problem=logits_problem(role, logits, parameters, declared),
        wrong=unexpected,
        integers=_groups(integers) + packed,
        widened=_groups(widened),
        quantization=told,
        adapters=(*storage.adapters(loaded.folder), *_adapter_layers(model)),
        tied=tuple(_tied(model)),
        offloaded=_groups((n, tensor) for n, tensor in parameters + buffers if tensor.device.type == "meta"),
        attention=str(getattr(model.config, "_attn_implementation", None) or "its own"),
    )


def _problem(role: str, declared: str, wrong: tuple[TensorGroup, ...]) -> str | None:
    if not wrong:
        return None
    count = sum(group.tensors for group in wrong)
    return f"{role}: {wrong[0].first} is {wrong[0].dtype}, declared is {declared} ({count} tensors differ)"


def _is_kept_wide(model: torch.nn.Module, name: str, tensor: torch.Tensor, declared: str) -> bool:
    """Whether the architecture itself holds this tensor in float32, whatever else is declared."""
    if _dtype(tensor) != "float32" or declared == "float32":
        return False
    if POSITION_TABLES in name:
        return True
    if declared not in ("float16", "bfloat16"):
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


def _share(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor that is split over ranks."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _owner(name: str) -> str:
    return name.rpartition(".")[0]


def _is_floating_point(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _is_integer_weight(tensor: torch.Tensor) -> bool:
    """Matrices of narrow integers are quantised weights; masks are boolean, position ids are int64."""
    return tensor.dim() >= 2 and _name(tensor.dtype) not in ("bool", "int64") and not _is_floating_point(tensor)


def _unregistered(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors that a module keeps as plain attributes, where neither parameters nor buffers list them."""
    import torch

    for module_name, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                yield f"{module_name}.{name}".lstrip("."), value


def _packed(model: torch.nn.Module) -> tuple[TensorGroup, ...]:
    """Weights of torch's own quantised layers, which are packed out of sight of parameters and buffers."""
    groups: dict[str, TensorGroup] = {}
    for name, module in model.named_modules():
        if hasattr(module, "_packed_params") and callable(getattr(module, "weight", None)):
            weight = module.weight()
            groups = _counted(groups, f"{name}.weight", _dtype(weight), weight.numel() * weight.element_size())
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


def _groups(tensors: Iterable[tuple[str, torch.Tensor]]) -> tuple[TensorGroup, ...]:
    groups: dict[str, TensorGroup] = {}
    for name, tensor in tensors:
        groups = _counted(groups, name, _dtype(tensor), tensor.numel() * tensor.element_size())
    return tuple(groups.values())


def _counted(groups: dict[str, TensorGroup], name: str, dtype: str, size: int) -> dict[str, TensorGroup]:
    known = groups.get(dtype, TensorGroup(dtype=dtype, tensors=0, bytes=0, first=name))
    return {**groups, dtype: TensorGroup(dtype, known.tensors + 1, known.bytes + size, known.first)}


def _dtype(tensor: torch.Tensor) -> str:
    """The dtype; a tensor subclass may hold something else than it says, so its class is named too."""
    import torch

    kind = type(tensor.data)
    return _name(tensor.dtype) if kind is torch.Tensor else f"{_name(tensor.dtype)} in {kind.__name__}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
