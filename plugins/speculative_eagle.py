"""Speculative decoding with a draft that reads hidden states of the target: EAGLE, as a chain and as a tree."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from specbench.api import (
    MOST_NODES,
    TREE_RULES,
    Drafter,
    EdgeModel,
    FeatureDtype,
    Method,
    Options,
    Part,
    SpeculativeMethod,
    hookimpl,
)


class Settings(Part):
    """The options of `speculative_eagle`."""

    features: Annotated[
        FeatureDtype, Field(description="Type of the hidden states that the cloud sends to the edge")
    ] = "float32"


class TreeSettings(Settings):
    """The options of `speculative_eagle_tree`."""

    nodes: Annotated[
        int, Field(ge=1, le=MOST_NODES, description="Tokens of a tree at most, those likeliest to be accepted")
    ] = 20


class SpeculativeEagle(SpeculativeMethod):
    """EAGLE and EAGLE-3 (Li et al. 2024, 2025), with the draft on an edge device.

    Every commit brings hidden states of the target, a few for each token, and they cross the link.
    """

    name = "speculative_eagle"
    summary = "the edge drafts from hidden states of the target that the cloud sends along"
    api_version = 4
    settings = Settings
    takes_confidence_stop = True
    takes_media = False
    reads_features = True

    def drafter(self, edge: EdgeModel, options: Options) -> Drafter:
        """The edge's model, which must be a draft that reads hidden states."""
        return edge.feature_drafter(options, self.own(options, Settings).features)


class SpeculativeEagleTree(SpeculativeEagle):
    """EAGLE-2 (Li et al. 2024): the same draft, and a tree of what it finds likely."""

    name = "speculative_eagle_tree"
    summary = "speculative_eagle, drafting a tree"
    settings = TreeSettings
    takes_confidence_stop = False
    drafts_trees = True
    rules = TREE_RULES
    rules_reason = ", which drafts trees"

    def drafter(self, edge: EdgeModel, options: Options) -> Drafter:
        """The edge's model, drafting trees."""
        own = self.own(options, TreeSettings)
        return edge.feature_drafter(options, own.features, own.nodes)


@hookimpl
def specbench_method() -> list[Method]:
    """Return the methods that this plugin brings."""
    return [SpeculativeEagle(), SpeculativeEagleTree()]
