"""Precision as the profile and the methods declare it; loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

from specbench.precision.findings import DIFFERS, UNDEMANDED, UNKNOWN, Finding
from specbench.profile import EdgeSpec, ModelSpec, Profile
from specbench.profile.models import Dtype

DTYPES = get_args(Dtype)


def declared_precision(spec: ModelSpec) -> str:
    """A model's declared precision, such as `float32` or `int8 weights, float32 arithmetic`."""
    return in_words(spec.dtype, getattr(spec, "quantization", None))


def in_words(dtype: str, quantization: str | None) -> str:
    """A dtype and a quantisation in words, such as `int8 weights, float32 arithmetic`."""
    return f"{quantization} weights, {dtype} arithmetic" if quantization else dtype


def arithmetic_of(declared: str) -> str:
    """The dtype in what `in_words` returned."""
    return declared.removesuffix(" arithmetic").rpartition(" ")[2]


def parity_findings(profile: Profile) -> list[Finding]:
    """Where the declared precisions break the profile's rule; empty when they keep it."""
    return [found for role, spec in profile.edge.drafts.items() for found in _parity_of(profile, role, spec)]


def _parity_of(profile: Profile, role: str, draft: EdgeSpec) -> list[Finding]:
    edge, cloud = declared_precision(draft), declared_precision(profile.cloud)
    if profile.precision.parity != "edge_cloud" or edge == cloud:
        return []
    settings: tuple[str, ...] = ()
    if draft.dtype != profile.cloud.dtype:
        fields = f"{role}.dtype is {draft.dtype} and cloud.dtype is {profile.cloud.dtype}"
        settings = (f"cloud.dtype={draft.dtype}" if role == "edge" else f"{role}.dtype={profile.cloud.dtype}",)
    else:
        fields = f"{role}.quantization is {draft.quantization} and the cloud's weights are {cloud}"
    if edge != draft.dtype:
        settings += (f"{role}.quantization=null",)
    message = f"{fields}, but precision.parity: edge_cloud requires one precision"
    return [Finding(DIFFERS, fields.partition(" ")[0], message, settings)]


def unseen_findings(profile: Profile) -> list[Finding]:
    """The finding on a cloud of another engine, whose tensors cannot be read."""
    if profile.cloud.backend != "openai":
        return []
    message = f"cloud: {profile.cloud.dtype} is declared, but the tensors of its server cannot be read"
    return [Finding(UNKNOWN, "cloud", message, UNDEMANDED)]


def method_findings(
    profile: Profile, method: str, changed: Mapping[str, str], roles: Iterable[str]
) -> list[Finding]:
    """Findings where a method's options change the precision of a role.

    Args:
        changed: what `Method.precision_changes` says, by role.
        roles: the models that the method loads.
    """
    if profile.precision.parity == "off":
        return []
    found = []
    for role in roles:
        declared = declared_precision(getattr(profile, role))
        becomes = changed.get(role, declared)
        if becomes != declared:
            message = f"{role}.dtype is {declared}, but {method} changes it to {becomes} by its own options"
            roles_alike = ("edge", "cloud") if profile.precision.parity == "edge_cloud" else (role,)
            settings = (
                tuple(f"{one}.dtype={becomes}" for one in roles_alike) if becomes in DTYPES else UNDEMANDED
            )
            found.append(Finding(DIFFERS, f"{role} of {method}", message, settings, method))
    return found


def demand_remarks(edge: str, cloud: str, parity: str, allow_tf32: bool) -> list[str]:
    """Remarks on what the parity rule allows."""
    said = []
    if parity == "per_role" and edge != cloud:
        said.append(f"edge is {edge} and cloud is {cloud}: allowed by precision.parity: per_role")
    if allow_tf32:
        said.append("float32 may be computed as TF32 (precision.allow_tf32: true)")
    if parity == "off":
        said.append("precision is not checked (precision.parity: off)")
    return said


def declared_remarks(profile: Profile) -> list[str]:
    """The remarks on what a profile declares."""
    edge, cloud = declared_precision(profile.edge), declared_precision(profile.cloud)
    return demand_remarks(edge, cloud, profile.precision.parity, profile.precision.allow_tf32)
