"""Suffix decoding: the draft is what followed the longest suffix of the sequence that occurred before."""

from __future__ import annotations

from specbench.api import (
    RULES,
    Drafter,
    EdgeModel,
    Method,
    Needs,
    Options,
    SpeculativeMethod,
    SuffixDrafter,
    SuffixSettings,
    hookimpl,
)


class SuffixDecoding(SpeculativeMethod):
    """SAM Decoding (Hu et al. 2024) and SuffixDecoding (Oliaro et al. 2024), over the sequence alone.

    A longer match is likelier to go on, so its length bounds the draft, within the profile's draft length. Only
    the sequence itself is searched. Of several continuations the first one is drafted, or with `nodes` a tree
    of them.
    """

    name = "suffix"
    summary = "the cloud verifies what followed the longest earlier match: no draft model"
    roles = ("cloud",)
    api_version = 4
    settings = SuffixSettings
    rules = frozenset(name for name, rule in RULES.items() if rule.proposes != "sample")
    rules_reason = ", whose draft has no distribution"

    def needs(self, options: Options) -> Needs:
        """A target that reads trees, where it drafts them."""
        return self.own(options, SuffixSettings).needs

    def drafter(self, edge: EdgeModel, options: Options) -> Drafter:
        """The automaton; no model is loaded."""
        return SuffixDrafter.of(self.own(options, SuffixSettings))


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return SuffixDecoding()
