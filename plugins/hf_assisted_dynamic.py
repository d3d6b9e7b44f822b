"""transformers' assisted generation with the schedule that it has by itself."""

from __future__ import annotations

from specbench.api import Method, hookimpl

from .hf_assisted import HfAssisted


class HfAssistedDynamic(HfAssisted):
    """Drafts until the draft is no longer sure (Mamou et al. 2024); the profile's draft length has no part."""

    name = "hf_assisted_dynamic"
    summary = "hf_assisted, drafting until the draft is no longer sure: transformers' default"
    dynamic = True


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return HfAssistedDynamic()
