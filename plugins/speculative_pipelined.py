"""Pipelined speculation: the edge drafts on while the cloud verifies, and rolls back what a refusal drops."""

from __future__ import annotations

from specbench.api import RULES, Method, SpeculativeMethod, hookimpl


class SpeculativePipelined(SpeculativeMethod):
    """PEARL's post-verify (Liu et al. 2025), AMUSD (McDanel 2024): one verification in flight at a time."""

    name = "speculative_pipelined"
    summary = "speculative, drafting on while the cloud verifies"
    api_version = 4
    takes_confidence_stop = True
    # Only a rule that matches the draft's own choice with the target's says whether a guess stands.
    rules = frozenset(name for name, rule in RULES.items() if rule.repeats_control)
    rules_reason = ", which needs a rule by which drafted tokens are the control's or refused"
    drafts_ahead = True
    takes_synthetic = False


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return SpeculativePipelined()
