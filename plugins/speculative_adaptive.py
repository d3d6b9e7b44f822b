"""Adaptive speculation: in each round the fastest of several ways, the cloud alone among them."""

from __future__ import annotations

import logging

from specbench.api import (
    RULES,
    TREE_RULES,
    CloudModel,
    Decoder,
    EdgeModel,
    LookupDrafter,
    Method,
    Needs,
    Options,
    SpecbenchError,
    SpeculativeDecoder,
    SpeculativeMethod,
    SuffixDrafter,
    Target,
    adaptive_loop,
    hookimpl,
)

logger = logging.getLogger(__name__)

MIN_MATCH, MAX_DRAFT_FACTOR = 2, 2.0  # as in `hybrid`


class SpeculativeAdaptive(SpeculativeMethod):
    """Never much slower than the cloud alone, whatever the round trip and the draft.

    It chooses draft length and window by itself, so what the profile says of them means nothing to it.
    """

    name = "speculative_adaptive"
    summary = "in each round the fastest of: the cloud alone, a draft, a window of drafts, a tree, a look-up"
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
        trees = options.speculative.verification in TREE_RULES and edge.reads_trees
        target, trees = self._target(cloud, options, trees)
        drafter = LookupDrafter(edge.drafter(options, trees), lookup)
        fallback = drafter if cloud.goes_on_alone else None
        return SpeculativeDecoder(drafter, target, adaptive_loop(drafter, target, trees), fallback)

    def _target(self, cloud: CloudModel, options: Options, trees: bool) -> tuple[Target, bool]:
        """The target, and whether it reads trees; one that reads none is asked for chains."""
        if trees:
            try:
                return cloud.verifier(options, Needs(trees=True)), True
            except SpecbenchError as reason:
                logger.info("%s chooses no trees: %s", self.name, reason.message)
        return cloud.verifier(options), False


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return SpeculativeAdaptive()
