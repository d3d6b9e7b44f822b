"""Findings and remarks from the audits of a pair."""

from __future__ import annotations

from collections.abc import Sequence

from specbench.precision.declared import DTYPES, arithmetic_of, demand_remarks, in_words
from specbench.precision.findings import DIFFERS, UNDEMANDED, UNKNOWN, Finding
from specbench.results.records import Audit, TensorGroup


def audit_findings(audits: Sequence[Audit], parity: str) -> list[Finding]:
    """Findings where the loaded models break the profile's rule, with the first tensor of each role.

    A role with a tensor that is not as declared differs under every rule; under `edge_cloud` so does a pair of
    two dtypes, or of two quantisations.
    """
    found = [_role_finding(audit, parity) for audit in audits if audit.problem]
    found += [
        Finding(UNKNOWN, f"{audit.role}: cache", f"{audit.role}: the tensors of its cache cannot be read")
        if audit.parameters
        else Finding(UNKNOWN, audit.role, f"{audit.role}: no tensor can be read ({audit.device})", UNDEMANDED)
        for audit in audits
        if not audit.cache
    ]
    by_role = {audit.role: audit for audit in audits}
    if parity == "edge_cloud" and not found and "cloud" in by_role:
        for edge in (audit for audit in audits if audit.role != "cloud"):
            found += _pair_findings(edge, by_role["cloud"])
    return found


def remarks(audits: Sequence[Audit], parity: str, allow_tf32: bool) -> list[str]:
    """Remarks on what is allowed but worth knowing: stored precision, quantisation, purposeful differences."""
    said = []
    by_role = {audit.role: audit for audit in audits}
    for audit in audits:
        said += [f"{audit.role}: {line}" for line in audit.computed]
        if not audit.computed and (origin := _other_origin(audit)):
            dtype = arithmetic_of(audit.declared)
            said.append(
                f"{audit.role}: the weights are stored as {origin} and computed in {dtype}; "
                "what was lost when they were stored is not restored"
            )
        if audit.quantization:
            said.append(f"{audit.role}: weights are quantised ({audit.quantization})")
        for how in ("widened", "narrowed"):
            said += [
                f"{audit.role}: {how} by the architecture: {group.first} is {group.dtype} "
                f"({group.tensors} {'tensor' if group.tensors == 1 else 'tensors'})"
                for group in getattr(audit, how)
            ]
        said += [f"{audit.role}: {adapter}" for adapter in audit.adapters]
        if audit.offloaded:
            first = audit.offloaded[0]
            said.append(f"{audit.role}: {first.tensors} tensors are offloaded, the first is {first.first}")
    edge, cloud = (_precision(by_role[role]) if role in by_role else "" for role in ("edge", "cloud"))
    is_pair = {"edge", "cloud"} <= by_role.keys()
    said += demand_remarks(edge, cloud, parity if is_pair or parity == "off" else "", allow_tf32)
    return said


def _role_finding(audit: Audit, parity: str) -> Finding:
    """A tensor that is not as declared; declaring its dtype, on both sides if need be, fixes it."""
    first = audit.wrong[0] if audit.wrong else None
    roles = ("edge", "cloud") if parity == "edge_cloud" else (audit.role,)
    declarable = first is not None and first.dtype in DTYPES
    settings = tuple(f"{role}.dtype={first.dtype}" for role in roles) if first and declarable else UNDEMANDED
    subject = f"{audit.role}: {first.first}" if first else audit.role
    return Finding(DIFFERS, subject, audit.problem or "", settings)


def _pair_findings(edge: Audit, cloud: Audit) -> list[Finding]:
    for one, other in ((edge, cloud), (cloud, edge)):
        if one.integers and dtypes_of(one.integers) != dtypes_of(other.integers):
            first = one.integers[0]
            message = f"{one.role}: {first.first} is {first.dtype}, and the {other.role} is {_precision(other)}"
            own = one.declared.endswith("arithmetic") and not one.computed
            settings = "edge.quantization=null" if own else "precision.parity=per_role"
            return [Finding(DIFFERS, f"{one.role}: {first.first}", message, (settings,))]
    if edge.declared != cloud.declared and cloud.parameters:
        first = cloud.parameters[0]
        count = sum(group.tensors for group in cloud.parameters)
        message = (
            f"cloud: {first.first} is {first.dtype}, and the edge is {edge.declared} ({count} tensors differ)"
        )
        settings = f"cloud.dtype={arithmetic_of(edge.declared)}"
        return [Finding(DIFFERS, f"cloud: {first.first}", message, (settings,))]
    return []


def dtypes_of(groups: Sequence[TensorGroup]) -> set[str]:
    """Which dtypes there are."""
    return {group.dtype for group in groups}


def _precision(audit: Audit) -> str:
    integers = ", ".join(sorted(dtypes_of(audit.integers)))
    told = integers and not audit.declared.endswith("arithmetic")
    return in_words(audit.declared, integers) if told else audit.declared


def _other_origin(audit: Audit) -> str | None:
    """What weights are stored as, or were converted from, where it is not what the model computes in."""
    own = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}.get(
        arithmetic_of(audit.declared)
    )
    return ", ".join(part for part in audit.stored if not part.startswith(f"{own} x")) or None
