"""Precision: as the profile declares it, as the loaded models have it, and as the arithmetic uses it."""

from specbench.precision import switches
from specbench.precision.audit_findings import audit_findings, remarks
from specbench.precision.declared import (
    declared_precision,
    declared_remarks,
    method_findings,
    parity_findings,
    unseen_findings,
)
from specbench.precision.findings import DIFFERS, OK, UNKNOWN, Finding, verdict
from specbench.precision.finite_logits import finite_findings
from specbench.precision.llama_cpp import audit_llama_cpp
from specbench.precision.loaded import audit_model
from specbench.precision.stored import between_findings, change_findings, differences, run_findings, side_of

__all__ = [
    "DIFFERS", "OK", "UNKNOWN", "Finding", "audit_findings", "audit_llama_cpp", "audit_model",
    "between_findings", "change_findings", "declared_precision", "declared_remarks", "differences",
    "finite_findings", "method_findings", "parity_findings", "remarks", "run_findings", "side_of", "switches",
    "unseen_findings", "verdict",
]  # fmt: skip
