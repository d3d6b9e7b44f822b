"""Whether a loaded model's logits and weights are finite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from specbench.precision.declared import arithmetic_of
from specbench.precision.findings import DIFFERS, Finding
from specbench.results.records import Audit

if TYPE_CHECKING:
    import torch


def logits_problem(
    role: str, logits: torch.Tensor, parameters: Iterable[tuple[str, torch.Tensor]], declared: str
) -> str | None:
    """Why no token can be read from a model's logits; `None` where one can.

    Args:
        parameters: looked through only where logits are not finite.
    """
    highest = logits.amax(-1)
    if bool(highest.isfinite().all()):
        return None
    damaged = (name for name, tensor in parameters if tensor.is_floating_point() and _is_damaged(tensor))
    first = next(damaged, None)
    why = (
        f"{first} holds values that are not finite"
        if first
        else f"its weights are finite, so {declared} overflows"
    )
    return f"{role}: logits are not finite ({float(highest[~highest.isfinite()][0])}); {why}"


def finite_findings(audits: Sequence[Audit], parity: str) -> list[Finding]:
    """Findings on models whose logits are not finite. A wider dtype fixes an overflow."""
    found = []
    for audit in audits:
        if audit.logits_problem is None:
            continue
        roles = ("edge", "cloud") if parity == "edge_cloud" else (audit.role,)
        wider = tuple(f"{role}.dtype=float32" for role in roles)
        is_narrow = arithmetic_of(audit.declared) in ("float16", "bfloat16")
        overflows = is_narrow and audit.logits_problem.endswith("overflows")
        settings = wider if overflows else (f"{audit.role}.model=ANOTHER",)
        found.append(Finding(DIFFERS, f"{audit.role}: logits", audit.logits_problem, settings))
    return found


def _is_damaged(tensor: torch.Tensor) -> bool:
    return tensor.device.type != "meta" and not bool(tensor.isfinite().all())
