"""Precision findings of stored runs, single and in pairs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import reduce
from operator import getitem

from specbench.precision import switches
from specbench.precision.audit_findings import audit_findings, dtypes_of
from specbench.precision.declared import arithmetic_of, in_words
from specbench.precision.findings import DIFFERS, UNDEMANDED, UNKNOWN, Finding
from specbench.precision.finite_logits import finite_findings
from specbench.results.records import Audit, Manifest, TensorGroup


def run_findings(manifest: Manifest) -> list[Finding]:
    """Precision findings of a stored run; what it did not record is unknown, never ok."""
    precision = manifest.profile.get("precision", {})
    parity, allow_tf32 = precision.get("parity", "edge_cloud"), precision.get("allow_tf32", False)
    found: list[Finding] = []
    if not manifest.audits:
        found.append(_not_recorded(manifest, "audits", "no audit of its tensors"))
    for audit in manifest.audits:
        if audit.attention is None:
            found.append(_not_recorded(manifest, f"{audit.role}: audit", f"no full audit of the {audit.role}"))
    if manifest.audits and not manifest.audits_at_end:
        found.append(_not_recorded(manifest, "audits at the end", "no audit of its tensors at its end"))
    found += audit_findings(manifest.audits, parity) + finite_findings(manifest.audits, parity)
    found += [finding for finding in change_findings(manifest) if finding not in found]
    for moment in ("start", "end"):
        values = manifest.switches.get(moment)
        if not values:
            found.append(_not_recorded(manifest, f"switches at the {moment}", f"no switches at its {moment}"))
        elif moment == "start":
            found += switches.findings(values, allow_tf32)
    known = {finding.message for finding in found}
    left = [problem for problem in manifest.precision_problems if problem not in known]
    return found + [Finding(DIFFERS, problem.partition(" ")[0], problem, UNDEMANDED) for problem in left]


def side_of(manifest: Manifest, role: str) -> str:
    """The precision of a role in words, as audited or else declared: `Q4_K weights, float16 arithmetic`."""
    found = next((audit.declared for audit in manifest.audits if audit.role == role), None)
    part = manifest.profile[role]
    return found or in_words(part["dtype"], part.get("quantization"))


def change_findings(manifest: Manifest) -> list[Finding]:
    """Switches and tensors that changed during a run."""
    found = []
    mending = switches.mending({change.switch: change.after for change in manifest.switch_changes})
    for change in manifest.switch_changes:
        by = f" since {change.method} answered prompt {change.prompt_id}" if change.method else ""
        message = f"{change.switch} was {change.before} at the start of the run and is {change.after}{by}"
        method = change.method if len(manifest.methods) > 1 else None
        settings = mending or (() if method else UNDEMANDED)
        found.append(Finding(DIFFERS, change.switch, message, settings, method))
    at_start = _by_place(manifest.audits)
    for place, later in _by_place(manifest.audits_at_end).items():
        earlier = at_start.get(place)
        if earlier is not None and later.problem and not earlier.problem:
            message = f"{later.problem}, at the end of the run"
            found.append(Finding(DIFFERS, f"{later.role}: {later.wrong[0].first}", message, UNDEMANDED))
        elif earlier is not None:
            for what, before, after in _role_differences(earlier, later):
                message = f"{later.role}: {what} was {before} at the start of the run and is {after} at its end"
                found.append(Finding(DIFFERS, f"{later.role}: {what}", message, UNDEMANDED))
                break
    return found


def _by_place(audits: Sequence[Audit]) -> dict[tuple[str, int], Audit]:
    """Audits by role, and by which of that role's they are: a cloud elsewhere may run a draft of its own."""
    roles = [audit.role for audit in audits]
    return {(audit.role, roles[:index].count(audit.role)): audit for index, audit in enumerate(audits)}


def differences(left: Manifest, right: Manifest) -> Iterator[tuple[str, object, object]]:
    """What differs in precision between two runs: its name, the left value, the right value.

    Roles that only one of them loads, and what only one of them recorded, are no difference.
    """
    theirs = _by_place(right.audits)
    for place, audit in _by_place(left.audits).items():
        if place in theirs and None not in (audit.attention, theirs[place].attention):
            for what, before, after in _role_differences(audit, theirs[place]):
                yield f"{audit.role}: {what}", before, after
    for moment in ("start", "end"):
        ours, other = left.switches.get(moment), right.switches.get(moment)
        if ours and other:
            for name in switches.changes(ours, other):
                yield f"{name} at the {moment}", ours.get(name), other.get(name)


def between_findings(left: Manifest, right: Manifest) -> list[Finding]:
    """What differs in precision between two runs, and what cannot be known because one did not record it."""
    found = []
    for part in ("parity", "allow_tf32"):
        ours, other = (manifest.profile.get("precision", {}).get(part) for manifest in (left, right))
        if ours != other:
            key = f"precision.{part}"
            found.append(_between(left, right, key, ours, other, (f"{key}={str(ours).lower()}",)))
    for what, ours, other in differences(left, right):
        role, _, field = what.partition(": ")
        settings: tuple[str, ...] = ()
        if field == "declared dtype":
            settings = (f"{role}.dtype={arithmetic_of(str(ours))}",)
            if "weights" in f"{ours}{other}":
                words = str(ours).partition(" weights")
                settings += (f"{role}.quantization={words[0] if words[1] else 'null'}",)
        if field == "stored":
            spec = reduce(getitem, role.split("."), left.profile)
            settings = (f"{role}.model={spec['model']}",)
        found.append(_between(left, right, what, ours, other, settings))
    for manifest in (left, right):
        if not (manifest.audits and all(a.attention for a in manifest.audits) and manifest.switches):
            found.append(_not_recorded(manifest, f"run {manifest.run_id}", "no full audit"))
    return found


def _between(
    left: Manifest, right: Manifest, what: str, ours: object, other: object, settings: tuple[str, ...]
) -> Finding:
    message = f"{what} is {ours} in run {left.run_id} and {other} in run {right.run_id}"
    return Finding(DIFFERS, what, message, settings)


def _role_differences(left: Audit, right: Audit) -> Iterator[tuple[str, object, object]]:
    """Fields of one role's precision, the first item of each named; sizes of models are no precision."""
    if left.declared != right.declared:
        yield "declared dtype", left.declared, right.declared
    for kind in ("parameters", "buffers", "cache"):
        ours, theirs = (_with_a_precision(audit, kind) for audit in (left, right))
        if ours and theirs and not _same(ours, theirs):
            odd = next((group for group in theirs if group.dtype not in dtypes_of(ours)), theirs[0])
            yield odd.first, _described(ours), _described(theirs)
    for field in ("logits", "stored", "quantization", "adapters", "attention"):
        ours, theirs = getattr(left, field), getattr(right, field)
        if ours != theirs and not (
            field == "stored" and left.model != right.model and _kinds(ours) == _kinds(theirs)
        ):
            yield field, _plain(ours), _plain(theirs)


def _with_a_precision(audit: Audit, kind: str) -> list[TensorGroup]:
    """Numbers that are computed with: positions, counters and masks, which are integers, are none."""
    weights = dtypes_of(audit.integers)
    return [
        group
        for group in getattr(audit, kind)
        if "float" in group.dtype or "complex" in group.dtype or group.dtype in weights
    ]


def _kinds(stored: Sequence[str]) -> list[str]:
    """Stored kinds without counts: another model has other counts, and the same precision."""
    return [re.sub(r" x\d+", "", part) for part in stored]


def _plain(value: object) -> object:
    return (", ".join(value) or "none") if isinstance(value, tuple) else value


def _same(left: Sequence[TensorGroup], right: Sequence[TensorGroup]) -> bool:
    if dtypes_of(left) != dtypes_of(right):
        return False
    return len(left) < 2 or {g.dtype: g.tensors for g in left} == {g.dtype: g.tensors for g in right}


def _described(groups: Sequence[TensorGroup]) -> str:
    return ", ".join(f"{group.dtype} x{group.tensors}" for group in groups) or "none"


def _not_recorded(manifest: Manifest, subject: str, what: str) -> Finding:
    return Finding(UNKNOWN, subject, f"run {manifest.run_id} was stored with {what}; run it again to check")
