"""Precision as it is: every parameter, buffer, logit and cache tensor of a loaded model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from specbench.audit.declared import in_words
from specbench.models import files
from specbench.records import Audit, TensorGroup

if TYPE_CHECKING:
    import torch

    from specbench.decoding.engine import Engine

# Position tables stay in float32 whatever the model's dtype, on purpose: they are inputs of cos and sin,
# whose results are cast. They are listed, never counted against the model.
POSITION_TABLES = ("inv_freq", "original_inv_freq")
# What turns quantised integers into weights; listed under its own dtype.
QUANTIZATION_TABLES = ("scales", "offsets")


def audit_model(role: str, name: str, engine: Engine) -> Audit:
    """Look at every tensor of a model, after one real forward pass of two tokens."""
    loaded = engine.loaded
    session = engine.session()
    logits = session.extend([0, 0])
    parameters = list(loaded.model.named_parameters())
    buffers = list(loaded.model.named_buffers())
    cache = list(session.tensors())
    declared = _name(loaded.dtype)
    suspects = [*parameters, *_without_tables(buffers), *cache, ("logits", logits)]
    wrong = [
        (tensor_name, _name(tensor.dtype))
        for tensor_name, tensor in suspects
        if tensor.is_floating_point() and _name(tensor.dtype) != declared
    ]
    problem = None
    if wrong:
        problem = (
            f"{role}: {wrong[0][0]} is {wrong[0][1]}, declared is {declared} ({len(wrong)} tensors differ)"
        )
    return Audit(
        role=role,
        model=name,
        device=str(loaded.device),
        declared=in_words(declared, loaded.quantization),
        vocabulary_size=engine.speakable_tokens,
        parameters=_groups(parameters),
        buffers=_groups(buffers),
        logits=_name(logits.dtype),
        cache=_groups(cache),
        stored=files.stored_as(loaded.folder),
        problem=problem,
    )


def audit_problems(audits: Sequence[Audit], parity: str) -> list[str]:
    """What breaks the profile's precision rule: the first tensor of each role that is not as declared.

    Under `edge_cloud` it is also the first parameter of the cloud that is not in the edge's dtype.
    """
    problems = [audit.problem for audit in audits if audit.problem]
    by_role = {audit.role: audit for audit in audits}
    if parity == "edge_cloud" and not problems and len(by_role) == 2:
        edge, cloud = by_role["edge"], by_role["cloud"]
        other = [group for group in cloud.parameters if group.dtype != edge.declared]
        if other:
            problems.append(
                f"cloud: {other[0].first} is {other[0].dtype}, and the edge is {edge.declared} "
                f"({other[0].tensors} tensors differ)"
            )
    return problems


def _without_tables(buffers: list[tuple[str, torch.Tensor]]) -> list[tuple[str, torch.Tensor]]:
    tables = (*POSITION_TABLES, *QUANTIZATION_TABLES)
    return [(name, tensor) for name, tensor in buffers if name.rpartition(".")[2] not in tables]


def _groups(tensors: Iterable[tuple[str, torch.Tensor]]) -> tuple[TensorGroup, ...]:
    groups: dict[str, TensorGroup] = {}
    for name, tensor in tensors:
        dtype = _name(tensor.dtype)
        known = groups.get(dtype, TensorGroup(dtype=dtype, tensors=0, bytes=0, first=name))
        groups[dtype] = TensorGroup(
            dtype, known.tensors + 1, known.bytes + tensor.numel() * tensor.element_size(), known.first
        )
    return tuple(groups.values())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
