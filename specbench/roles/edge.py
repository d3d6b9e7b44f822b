"""The draft model, on the edge."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from specbench.errors import ProfileError, SpecbenchError, SpecbenchWarning, nearest
from specbench.profile import HELPERS, EdgeSpec, Options, settings_hash
from specbench.results.environment import expanded
from specbench.roles.llama_cpp import MaybeInLlamaCpp

if TYPE_CHECKING:
    from specbench.models.loading import LoadedModel
    from specbench.models.retokenizing import Retokenizer
    from specbench.models.vocabulary import DraftVocabulary
    from specbench.roles.engine_choice import Begun
    from specbench.roles.role import ModelFactory
    from specbench.speculation.drafter import ModelDrafter
    from specbench.speculation.eagle_drafter import EagleDrafter, EagleTreeDrafter
    from specbench.speculation.features import FeatureDtype
    from specbench.speculation.outcome_drafter import OutcomeDrafter
    from specbench.speculation.request import Needs
    from specbench.speculation.target import LocalTarget
    from specbench.speculation.text_drafter import TextDrafter
    from specbench.speculation.tree_drafter import TreeDrafter

logger = logging.getLogger(__name__)


class EdgeModel(MaybeInLlamaCpp):
    """The draft model, on the edge device."""

    role: str = "edge"
    _spec_type = EdgeSpec
    spec: EdgeSpec
    retokenizer: Retokenizer | None = None
    """How its drafts become the target's tokens, where the two are of different families and it drafts text."""

    @cached_property
    def _helpers(self) -> dict[str, EdgeModel]:
        made = {}
        for name, spec in (self.spec.helpers or {}).items():
            made[name] = EdgeModel(spec, self.engine_spec)
            made[name].role = f"{HELPERS}{name}"
        return made

    def helper(self, name: str) -> EdgeModel:
        """A further draft model on this edge, one of the profile's `edge.helpers`; loaded when first used.

        Raises:
            SpecbenchError: the profile has none of this name.
        """
        if name not in self._helpers:
            raise ProfileError(
                f"{HELPERS}{name}: the profile has no such model",
                nearest(name, self._helpers, f"add --set {HELPERS}{name}.model=MODEL"),
            )
        return self._helpers[name]

    @cached_property
    def draft_vocabulary(self) -> DraftVocabulary | None:
        """The draft's own vocabulary, if the profile names its map.

        Raises:
            SpecbenchError: the map is missing, damaged, or not this draft's.
        """
        from specbench.models.vocabulary import DraftVocabulary

        if self.spec.vocab_map is None:
            return None
        size = self.config.get_text_config().vocab_size
        return DraftVocabulary.read(self._vocab_map(), size)

    def _vocab_map(self) -> Path:
        """The map's file: a name alone is looked for in the model's folder first, a path there last of all."""
        named = expanded(str(self.spec.vocab_map))
        beside = (self.folder.parent if self.folder.is_file() else self.folder) / named
        is_path = os.sep in str(self.spec.vocab_map)
        if is_path and not named.exists() and beside.exists():
            warnings.warn(
                f"edge.vocab_map: {named} was found in the model's folder; write the path of the file",
                SpecbenchWarning,
                stacklevel=2,
            )
            return beside
        return named if is_path or (named.exists() and not beside.exists()) else beside

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all that its drafts depend on: files, layers, precision, vocabulary."""
        from specbench.models import files

        spec, own = self.spec, self.draft_vocabulary
        folder = files.locate(spec, weights=True)
        known = [own.target_ids, own.unknown_id] if own else None
        return settings_hash(files.fingerprint(folder), spec.layers, spec.dtype, spec.quantization, known)

    def _begin(self) -> Begun:
        self.demand_quantizable()  # before it is read
        return super()._begin()

    def demand_quantizable(self) -> None:
        """Refuse a model that cannot be quantised as the profile says; reads no weights.

        Raises:
            SpecbenchError: naming the tensor that stands in the way.
        """
        if self.spec.quantization is not None:
            from specbench.engine.quantized import demand_quantizable

            demand_quantizable(self.config, self.folder, self.spec.quantization)

    def _prepared(self, loaded: LoadedModel) -> LoadedModel:
        if self.spec.quantization is None:
            return loaded
        from specbench.engine.quantized import quantize

        logger.info("quantising the edge model to %s", self.spec.quantization)
        return quantize(loaded, self.spec.quantization)

    def demand_same_tokens(
        self, cloud: ModelFactory, cross_vocabulary: Literal["tli", "slem", False] = False
    ) -> str | None:
        """Refuse a pair that speaks of different tokens; called before the draft is loaded.

        Args:
            cross_vocabulary: what to do where their vocabularies differ.

        Returns:
            What they have in common where they do.

        Raises:
            SpecbenchError: the vocabularies differ, or the draft's map was made for another target.
        """
        from specbench.models import vocabulary
        from specbench.models.common_tokens import CommonTokens
        from specbench.models.retokenizing import Retokenizer

        if self.draft_vocabulary:
            self.draft_vocabulary.demand_target(cloud.tokenizer)
        elif not cross_vocabulary or vocabulary.known(self.tokenizer) == vocabulary.known(cloud.tokenizer):
            vocabulary.demand_equal(self.tokenizer, cloud.tokenizer)
        elif cross_vocabulary == "slem":
            self.retokenizer = Retokenizer(self.tokenizer, cloud.tokenizer)
            return (
                f"{self.role} and cloud have different vocabularies: drafts are read as text "
                f"({self.retokenizer.share:.0%} of the target's tokens are the draft's too)"
            )
        else:
            rows = self.config.get_text_config().vocab_size
            self.draft_vocabulary = common = CommonTokens.of(self.tokenizer, cloud.tokenizer, rows)
            return (
                f"{self.role} and cloud have different vocabularies: the draft can say "
                f"{len(common.target_ids):,} of the target's {common.target_size:,} tokens ({common.share:.0%})"
            )
        return None

    @property
    def reads_features(self) -> bool:
        """Whether the draft reads hidden states of its target."""
        from specbench.models.feature_fed import is_feature_fed

        return is_feature_fed(self.config)

    def demand_tokens_alone(self) -> None:
        """Refuse a draft that needs more than tokens to draft.

        Raises:
            SpecbenchError: it reads hidden states of the target.
        """
        if self.reads_features:
            raise SpecbenchError(
                f"the {self.role} model {self.spec.model} reads hidden states of its target, which only "
                "speculative_eagle, speculative_eagle_tree and speculative_colocated hand it",
                "run speculative_eagle",
            )

    def demand_target_ids(self) -> None:
        """Refuse a draft that says text or reads hidden states, for what is known of drafts token by token.

        Raises:
            SpecbenchError: it does.
        """
        self.demand_tokens_alone()
        if self.retokenizer:
            raise SpecbenchError(
                "speculative.cross_vocabulary: slem drafts text, whose tokens cannot be traced or timed",
                "add --set speculative.cross_vocabulary=tli",
            )

    def text_drafter(self, retokenizer: Retokenizer) -> TextDrafter:
        """This model as one whose drafts reach the target as text.

        Raises:
            SpecbenchError: its cache cannot be rolled back.
        """
        from specbench.speculation.text_drafter import TextDrafter

        self.demand_tokens_alone()
        self.engine.require_rollback()
        return TextDrafter(self.engine, retokenizer, self.context_length)

    def tree_drafter(self, options: Options, nodes: int, branching: Sequence[int] | None = None) -> TreeDrafter:
        """This model as one that proposes trees.

        Args:
            nodes: of a tree at most, or `branching`: children of each node by depth.

        Raises:
            SpecbenchError: its cache cannot be rolled back, or it reads no trees.
        """
        from specbench.speculation.tree_drafter import TreeDrafter

        self.demand_tokens_alone()
        self.engine.require_rollback()
        self.engine.require_trees()
        return TreeDrafter(self.engine, options, nodes, branching)

    @property
    def reads_trees(self) -> bool:
        """Whether it can draft trees of tokens."""
        return not self.reads_features and self.engine.tree_obstacle is None

    def drafter(self, options: Options, trees: bool = False) -> ModelDrafter:
        """This model as one that proposes tokens.

        Args:
            trees: it is to be a `ChainOrTreeDrafter`.

        Raises:
            SpecbenchError: its cache cannot be rolled back, or it reads no trees and is to draft some.
        """
        from specbench.speculation.chain_or_tree_drafter import ChainOrTreeDrafter
        from specbench.speculation.drafter import ModelDrafter

        self.demand_tokens_alone()
        self.engine.require_rollback()
        if not trees:
            return ModelDrafter(self.engine, options)
        self.engine.require_trees()
        return ChainOrTreeDrafter(self.engine, options)

    def feature_drafter(
        self, options: Options, dtype: FeatureDtype = "float32", nodes: int | None = None
    ) -> EagleDrafter | EagleTreeDrafter:
        """This model as one that reads hidden states of the target.

        Args:
            dtype: of the hidden states on the wire.
            nodes: of a tree at most; `None` for chains.

        Raises:
            SpecbenchError: it reads none, its cache cannot be rolled back, or it reads no trees.
        """
        from specbench.speculation.eagle_drafter import EagleDrafter, EagleTreeDrafter

        if not self.reads_features:
            raise SpecbenchError(
                f"the {self.role} model {self.spec.model} reads no hidden states, which the method drafts from",
                "make such a draft with 'specbench distill --kind eagle', or run speculative",
            )
        self.engine.require_rollback()
        if nodes is None:
            return EagleDrafter(self.engine, options, dtype)
        self.engine.require_trees()
        return EagleTreeDrafter(self.engine, options, dtype, nodes)

    def target(self, options: Options, needs: Needs | None = None) -> LocalTarget:
        """This model as the one that decides the text, where it can write alone."""
        self.demand_tokens_alone()
        return self.target_here(options, needs)

    def outcome_drafter(self, options: Options, outcomes: int) -> OutcomeDrafter:
        """This model as one that drafts ahead for so many outcomes of a verification.

        Raises:
            SpecbenchError: its cache cannot be rolled back, or reads no trees.
        """
        from specbench.speculation.outcome_drafter import OutcomeDrafter

        self.demand_tokens_alone()
        self.engine.require_rollback()
        self.engine.require_trees()
        return OutcomeDrafter(self.engine, options, outcomes)
