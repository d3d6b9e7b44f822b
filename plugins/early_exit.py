"""Early exit: the target's first layers draft, and all of them verify."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from specbench.api import (
    CloudModel,
    Decoder,
    EdgeModel,
    Method,
    Options,
    Part,
    SpeculativeDecoder,
    SpeculativeLoop,
    SpeculativeMethod,
    hookimpl,
)


class Settings(Part):
    """The options of `early_exit`."""

    layers: Annotated[
        int | None, Field(ge=1, description="How many of the target's first layers draft; null for a quarter")
    ] = None


class EarlyExit(SpeculativeMethod):
    """LayerSkip (Elhoushi et al. 2024), on a target that may not have been trained to exit early.

    Draft and target share weights, but no cache: what a draft's narrow pass leaves there differs from the
    target's own in its last bits, and the text would no longer be the control's. Which layers to skip is not
    searched for, as SWIFT does (Xia et al. 2024).
    """

    name = "early_exit"
    summary = "the target drafts with its own first layers: no second model"
    roles = ("cloud",)
    api_version = 4
    settings = Settings
    takes_confidence_stop = True
    needs_eager = True
    takes_media = False

    def open(self, edge: EdgeModel, cloud: CloudModel, options: Options) -> Decoder:
        """Load the cloud model, and make the draft of its layers."""
        whole = cloud.config.get_text_config().num_hidden_layers
        layers = self.own(options, Settings).layers or max(1, whole // 4)
        drafter, target = cloud.self_drafter(options, layers), cloud.verifier(options)
        loop = SpeculativeLoop(drafter, target, options.speculative.draft_length)
        return SpeculativeDecoder(drafter, target, loop)


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return EarlyExit()
