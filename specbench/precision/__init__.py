"""What precision really is: declared in the profile, found in the loaded models, and set for the arithmetic."""

from specbench.audit import switches
from specbench.audit.declared import (
    declared_precision,
    declared_remarks,
    method_findings,
    parity_findings,
    unseen_findings,
)
from specbench.audit.findings import DIFFERS, OK, UNKNOWN, Finding, verdict
from specbench.audit.finite import finite_findings
from specbench.audit.loaded import audit_model
from specbench.audit.stored import between_findings, change_findings, differences, run_findings
from specbench.audit.verdicts import audit_findings, remarks

__all__ = [
    "DIFFERS", "OK", "UNKNOWN", "Finding", "audit_findings", "audit_model", "between_findings",
    "change_findings", "declared_precision", "declared_remarks", "differences", "finite_findings",
    "method_findings", "parity_findings", "remarks", "run_findings", "switches", "unseen_findings", "verdict",
]  # fmt: skip
