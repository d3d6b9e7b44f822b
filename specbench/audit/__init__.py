"""What precision really is: declared in the profile, and found in the loaded model."""

from specbench.audit.declared import parity_problems
from specbench.audit.loaded import audit_model, audit_problems

__all__ = ["audit_model", "audit_problems", "parity_problems"]
