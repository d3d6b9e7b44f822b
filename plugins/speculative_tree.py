"""Speculative decoding with a tree: the draft model proposes several continuations, read in one pass."""

from __future__ import annotations

from itertools import accumulate
from operator import mul
from typing import Annotated

from pydantic import Field, field_validator

from specbench.api import (
    MOST_NODES,
    TREE_RULES,
    Drafter,
    EdgeModel,
    Method,
    Options,
    Part,
    SpecbenchError,
    SpeculativeMethod,
    hookimpl,
)


class Settings(Part):
    """The options of `speculative_tree`."""

    nodes: Annotated[
        int, Field(ge=1, le=MOST_NODES, description="Tokens of a tree at most, those likeliest to be accepted")
    ] = 20
    branching: Annotated[
        tuple[Annotated[int, Field(ge=1, le=MOST_NODES)], ...] | None,
        Field(
            strict=False,
            description="Children of each node by depth, such as [3, 2, 1, 1], for a tree of one shape; null "
            "grows it to `nodes` tokens",
        ),
    ] = None

    @field_validator("branching")
    @classmethod
    def _can_be_read(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        nodes = sum(accumulate(value or (), mul))
        if nodes > MOST_NODES:
            raise ValueError(f"Such a tree has {nodes} tokens; at most {MOST_NODES} are read")
        return value


class SpeculativeTree(SpeculativeMethod):
    """EAGLE-2 (Li et al. 2024) grows such trees, and SpecInfer (Miao et al. 2024) has them of one shape.

    No path is longer than the profile's draft length.
    """

    name = "speculative_tree"
    summary = "the edge drafts a tree, the cloud verifies all its paths in one pass"
    api_version = 4
    settings = Settings
    drafts_trees = True
    rules = TREE_RULES
    rules_reason = ", which drafts trees"

    def validate(self, options: Options) -> None:
        """Refuse a shape that is deeper than a draft may be long."""
        super().validate(options)
        branching, length = self.own(options, Settings).branching, options.speculative.draft_length
        if branching and length != "auto" and len(branching) > length:
            raise SpecbenchError(
                f"methods.{self.name}.branching: {list(branching)} is deeper than speculative.draft_length: "
                f"{length}",
                f"add --set speculative.draft_length={len(branching)}",
            )

    def drafter(self, edge: EdgeModel, options: Options) -> Drafter:
        """The edge's model, drafting trees."""
        own = self.own(options, Settings)
        return edge.tree_drafter(options, own.nodes, own.branching)


@hookimpl
def specbench_method() -> Method:
    """Return the method that this plugin brings."""
    return SpeculativeTree()
