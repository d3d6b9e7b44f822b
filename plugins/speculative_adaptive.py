"""Adaptive speculation: in each round the fastest of several ways, the cloud alone among them."""

from __future__ import annotations

from specbench.api import (
    RULES,
    CloudModel,
    Decoder,
    EdgeModel,
    LookupDrafter,
    Method,
    Options,
    SpeculativeDecoder,
    SpeculativeMethod,
    SuffixDrafter,
    adaptive_loop,
    hookimpl,
)

MIN_MATCH, MAX_DRAFT_FACTOR = 2, 2.0  # as in `hybrid`


class SpeculativeAdaptive(SpeculativeMethod):
    """Never much slower than the cloud alone, whatever the round trip and the draft.

    It chooses draft length and window by itself, so what the profile says of them means nothing to it.
    """

    name = "speculative_adaptive"
    summary = "in each round the fastest of: the cloud alone, a draft, a window of drafts, a look-up"
    api_version = 4
    keeps_costs = True
    takes_synthetic = False

    def _demand_window(self, options: Options) -> None:
        """Any will do: it is not asked for."""

    def depends_on_time(self, options: Options) -> bool:
        """It chooses by what things take."""
        return True

    def open(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> Decoder:
        """Load both models."""
        proposes = RULES[options.speculative.verification].proposes
        # A look-up has no distribution.
        lookup = None if proposes == "sample" else SuffixDrafter(MIN_MATCH, MAX_DRAFT_FACTOR)
        drafter, target = LookupDrafter(edge.drafter(options), lookup), cloud.verifier(options)
        fallback = drafter if cloud.goes_on_alone else None
        return SpeculativeDecoder(drafter, target, adaptive_loop(drafter, target), fallback)


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return SpeculativeAdaptive()
