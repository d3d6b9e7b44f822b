"""The audits of all ranks of one model as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from specbench.results.records import Audit, TensorGroup

SUMMED = ("parameters", "buffers", "cache", "wrong", "integers", "widened", "narrowed", "offloaded")


def merged(audits: Sequence[Audit]) -> Audit:
    """One audit for all ranks: bytes are summed, names and counts are rank 0's.

    What a rank keeps that another has too (norms, position tables) is counted as often as it is held.

    Args:
        audits: by rank.
    """
    first = audits[0]
    groups: dict[str, Any] = {field: _summed([getattr(audit, field) for audit in audits]) for field in SUMMED}
    problems = [
        f"{audit.problem} (on rank {rank} of {len(audits)})"
        for rank, audit in enumerate(audits)
        if audit.problem
    ]
    return replace(first, ranks=len(audits), problem=problems[0] if problems else None, **groups)


def _summed(ranks: Iterable[tuple[TensorGroup, ...]]) -> tuple[TensorGroup, ...]:
    found: dict[str, TensorGroup] = {}
    for groups in ranks:
        for group in groups:
            known = found.get(group.dtype)
            found[group.dtype] = replace(known, bytes=known.bytes + group.bytes) if known else group
    return tuple(found.values())
