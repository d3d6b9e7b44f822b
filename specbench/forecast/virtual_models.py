"""The two models of a replay, as a method receives them: they exist as a trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from specbench.errors import SpecbenchError
from specbench.forecast.events import Timeline
from specbench.forecast.traced_drafter import Text
from specbench.forecast.traced_outcomes import TracedOutcomeDrafter
from specbench.forecast.traced_tree import TracedChainOrTreeDrafter, TracedTreeDrafter
from specbench.forecast.virtual import VirtualColocated, VirtualDrafter, VirtualTarget
from specbench.forecast.virtual_switching import VirtualSwitchingTarget
from specbench.profile import Options
from specbench.speculation.request import Needs

if TYPE_CHECKING:
    pass


class _Virtual:
    """A model that exists as a trace."""

    role = ""

    def __init__(self, text: Text, timeline: Timeline) -> None:
        self._text = text
        self._timeline = timeline

    def load(self) -> None:
        """Nothing: it is a trace."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise SpecbenchError(f"a replay has no {self.role} model, and the method asks for its '{name}'")


class VirtualEdge(_Virtual):
    """The edge of a replay."""

    role = "edge"
    drafts = False
    """Whether the traced draft was asked for."""
    retokenizer = None

    @property
    def reads_trees(self) -> bool:
        """Whether the trace says what trees the draft would propose."""
        return bool(self._text.likely)

    def drafter(self, options: Options, trees: bool = False) -> VirtualDrafter:
        """The traced draft."""
        self.drafts = True
        if trees:
            return TracedChainOrTreeDrafter(self._text, self._timeline.take, options)
        return VirtualDrafter(self._text, self._timeline.take)

    def outcome_drafter(self, options: Options, outcomes: int) -> TracedOutcomeDrafter:
        """The traced draft, drafting ahead for so many outcomes."""
        self.drafts = True
        return TracedOutcomeDrafter(self._text, self._timeline.take, outcomes)

    def feature_drafter(self, *asked: object) -> NoReturn:
        """Refuse: what such a draft says depends on what it was handed."""
        raise SpecbenchError("the method drafts from the target's hidden states, which a trace does not hold")

    def tree_drafter(
        self, options: Options, nodes: int, branching: Sequence[int] | None = None
    ) -> TracedTreeDrafter:
        """The traced draft, drafting trees."""
        from specbench.speculation.tree_drafter import TreeDrafter

        self.drafts = True
        return TracedTreeDrafter(
            self._text, self._timeline.take, lambda engine: TreeDrafter(engine, options, nodes, branching)
        )


class VirtualCloud(_Virtual):
    """The cloud of a replay."""

    role = "cloud"
    goes_on_alone = verifies = False
    """`verifies`: whether proposals will come from a drafter."""

    def target(self, options: Options) -> VirtualTarget:
        """The traced target, decoding alone."""
        return VirtualTarget(self._text, self._timeline)

    def verifier(self, options: Options, needs: Needs | None = None) -> VirtualSwitchingTarget:
        """The traced target, verifying."""
        if needs and needs.features:
            raise SpecbenchError("the method reads the target's hidden states, which a trace does not hold")
        if needs and needs.top_k:
            raise SpecbenchError("the method reads the target's likeliest ids, which a trace does not hold")
        self.verifies = True
        return VirtualSwitchingTarget(self._text, self._timeline)

    def colocated(self, edge: VirtualEdge, options: Options) -> VirtualColocated:
        """Both, in one place."""
        return VirtualColocated(self._text, self._timeline, options)
