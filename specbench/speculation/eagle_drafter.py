"""A draft model that reads the target's hidden states, drafting chains or trees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from specbench.engine.base import Engine
from specbench.profile import Options
from specbench.speculation.drafter import ModelDrafter
from specbench.speculation.features import FeatureDtype, Features
from specbench.speculation.fed_session import FedSession
from specbench.speculation.tree_drafter import TreeDrafter

if TYPE_CHECKING:
    from specbench.engine.session import KVSession
    from specbench.speculation.loop import Target


class _Fed(ModelDrafter):
    """What chains and trees have in common.

    Behind a commit the draft reads what was committed with the target's hidden states; behind that, what it
    drafts with its own. So nothing that was drafted stays in its cache.
    """

    features: Features
    target: Target

    def _opened(self, capacity: int) -> KVSession:
        model: Any = self._engine.loaded.model
        return FedSession(self._engine.session(capacity), self._engine.role, capacity, model.fused)

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """Take over what the target committed, and its hidden states; forget what was drafted."""
        self._text[self._committed :] = tokens
        self._committed = len(self._text)
        self._proposed.clear()
        self._unsure.clear()
        session = self._session
        assert isinstance(session, FedSession)
        session.feed(self.target.hidden_states, self._text)
        return 0


class EagleDrafter(_Fed):
    """Proposes chains (Li et al. 2024 and 2025, EAGLE and EAGLE-3).

    Args:
        dtype: of the hidden states on the wire.
    """

    def __init__(self, engine: Engine, options: Options, dtype: FeatureDtype) -> None:
        super().__init__(engine, options)
        self.features = features_of(engine, dtype)


class EagleTreeDrafter(_Fed, TreeDrafter):
    """Proposes trees that grow where the draft finds them likeliest to be accepted (Li et al. 2024, EAGLE-2).

    Args:
        dtype: of the hidden states on the wire.
        nodes: as of `TreeDrafter`.
    """

    def __init__(self, engine: Engine, options: Options, dtype: FeatureDtype, nodes: int) -> None:
        super().__init__(engine, options, nodes)
        self.features = features_of(engine, dtype)


def features_of(engine: Engine, dtype: FeatureDtype) -> Features:
    """What a draft's configuration says that it reads."""
    config: Any = engine.loaded.model.config
    return Features(tuple(config.feature_layers), config.feature_size, dtype)
