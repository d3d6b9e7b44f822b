"""Suffix decoding: the draft is what followed the longest suffix of the sequence that occurred before."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from specbench.api import (
    RULES,
    Drafter,
    EdgeModel,
    Method,
    Options,
    Part,
    SpeculativeMethod,
    SuffixDrafter,
    hookimpl,
)


class Settings(Part):
    """The options of `suffix`."""

    min_match: Annotated[int, Field(ge=1, description="Shortest match to draft from, in tokens")] = 1
    max_draft_factor: Annotated[
        float, Field(ge=1, le=64, description="Longest draft, as a multiple of the match's length")
    ] = 2.0


class SuffixDecoding(SpeculativeMethod):
    """SAM Decoding (Hu et al. 2024) and SuffixDecoding (Oliaro et al. 2024), over the sequence alone.

    A longer match is likelier to go on, so its length bounds the draft, within the profile's draft length. Only
    the sequence itself is searched, and of several continuations the first one is drafted.
    """

    name = "suffix"
    summary = "the cloud verifies what followed the longest earlier match: no draft model"
    roles = ("cloud",)
    api_version = 4
    settings = Settings
    rules = frozenset(name for name, rule in RULES.items() if rule.proposes != "sample")
    rules_reason = ", whose draft has no distribution"

    def drafter(self, edge: EdgeModel, options: Options) -> Drafter:
        """The automaton; no model is loaded."""
        own = self.own(options, Settings)
        return SuffixDrafter(own.min_match, own.max_draft_factor)


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return SuffixDecoding()
