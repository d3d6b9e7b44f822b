"""What precision really is: declared in the profile, and found in the loaded model."""

from specbench.audit.declared import declared_precision, parity_problems
from specbench.audit.loaded import audit_model, audit_problems

__all__ = ["audit_model", "audit_problems", "declared_precision", "parity_problems"]
