"""Speculation that drafts ahead for several outcomes of the verification in flight, refusals included."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from specbench.api import RULES, Drafter, EdgeModel, Method, Options, Part, SpeculativeMethod, hookimpl


class Settings(Part):
    """The options of `speculative_ahead`."""

    outcomes: Annotated[
        int, Field(ge=1, le=16, description="Outcomes of a verification to draft for while it is in flight")
    ] = 8


class SpeculativeAhead(SpeculativeMethod):
    """Speculative speculative decoding (Kumar, Dao and May 2026), with a round trip to draft in."""

    name = "speculative_ahead"
    summary = "speculative, drafting on for the likeliest refusals too while the cloud verifies"
    api_version = 4
    settings = Settings
    # Only a rule that matches the draft's own choice with the target's says whether a guess stands.
    rules = frozenset(name for name, rule in RULES.items() if rule.repeats_control)
    rules_reason = ", which needs a rule by which drafted tokens are the control's or refused"
    drafts_ahead = True
    takes_synthetic = False

    def drafter(self, edge: EdgeModel, options: Options) -> Drafter:
        """The edge's model, with branches."""
        return edge.outcome_drafter(options, self.own(options, Settings).outcomes)


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return SpeculativeAhead()
