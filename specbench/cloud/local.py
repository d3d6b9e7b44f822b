"""The target model in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from specbench.cloud.handle import CloudModel
from specbench.errors import ExitCode, SpecbenchError
from specbench.profile import Decoding, Options

if TYPE_CHECKING:
    from specbench.cloud.transport.remote_target import RemoteTarget
    from specbench.engine.compiled.engine import CompiledEngine
    from specbench.results.ceilings import Ceiling
    from specbench.results.records import Round
    from specbench.roles.edge import EdgeModel
    from specbench.speculation.assisted import AssistedGeneration
    from specbench.speculation.colocated import ColocatedTarget
    from specbench.speculation.recomputation import Recomputed
    from specbench.speculation.request import Needs, Request
    from specbench.speculation.target import LocalTarget
    from specbench.speculation.ties import Evidence, Pass


class LocalCloud(CloudModel, runs="here"):
    """The target model in this process, with nothing between edge and cloud.

    Raises:
        SpecbenchError: the profile splits the model, and this is no process of its ranks.
    """

    def __init__(self, *arguments: Any, **fields: Any) -> None:
        super().__init__(*arguments, **fields)
        if self.spec.ranks > 1 and not self.is_split:
            raise SpecbenchError(
                "cloud.parallel needs a process per rank, but cloud.placement is in_process",
                "add --set cloud.placement=process",
            )

    @property
    def is_wired(self) -> bool:
        """Whether frames lie between edge and cloud."""
        return False

    @property
    def compiled_type(self) -> type[CompiledEngine]:
        """As of every model; for several sequences a pass where the profile says so."""
        if self.spec.batch.sessions == 1:
            return super().compiled_type
        from specbench.engine.compiled.packed import PackedEngine

        return PackedEngine

    def ceiling(self) -> Ceiling:
        """What memory allows this model now; here it can always be measured."""
        return self._meter.ceiling()

    def target(self, options: Options) -> LocalTarget | RemoteTarget:
        """As of every cloud: its passes run here."""
        return self.target_here(options)

    def verifier(self, options: Options, needs: Needs | None = None) -> LocalTarget | RemoteTarget:
        """As of every cloud: its passes run here."""
        return self.verifying(options, needs)

    def verifying(self, options: Options, needs: Needs | None = None) -> LocalTarget:
        """As `verifier`, in this process and with nothing between."""
        self.engine.require_rollback()
        if needs and needs.trees:
            self.engine.require_trees()
        if needs and needs.features:
            self.engine.require_hidden_states(needs.features.layers, needs.features.size)
        return self.target_here(options, needs)

    def colocated(self, edge: EdgeModel, options: Options) -> ColocatedTarget | RemoteTarget:
        """As of every cloud: its passes run here."""
        return self.speculating(edge, options)

    def speculating(self, draft: EdgeModel, options: Options) -> ColocatedTarget:
        """As `colocated`, in this process and with nothing between."""
        from specbench.speculation.colocated import ColocatedTarget
        from specbench.speculation.request import Needs

        self.engine.require_rollback()
        if not draft.reads_features:
            return ColocatedTarget(self.engine, options, draft.drafter(options))
        drafter = draft.feature_drafter(options)
        self.engine.require_hidden_states(drafter.features.layers, drafter.features.size)
        target = ColocatedTarget(self.engine, options, drafter, Needs(features=drafter.features))
        drafter.target = target
        return target

    def assisted(self, edge: EdgeModel, options: Options, dynamic: bool) -> AssistedGeneration:
        """As of every cloud; it takes transformers' own engine."""
        from specbench.speculation.assisted import AssistedGeneration

        edge.demand_tokens_alone()
        for model in (edge, self):
            if model.engine.kind != "eager":
                raise SpecbenchError(
                    f"assisted generation runs transformers' own passes, and the {model.role}'s engine is "
                    f"{model.engine.kind}",
                    "add --set engine.kind=eager",
                )
            model.engine.require_rollback()
            if model.engine.state:
                raise SpecbenchError(
                    f"assisted generation takes tokens out of a cache, and {model.engine.state}",
                    "speculate with our own loop, which restores states (specbench run speculative)",
                    ExitCode.MODEL,
                )
        return AssistedGeneration(
            self.engine.loaded, edge.engine.loaded, edge.draft_vocabulary, options, dynamic
        )

    def generator(self, decoding: Decoding) -> Callable[[Request], Iterator[Round]]:
        """As of every cloud: `model.generate` runs here."""
        from specbench.speculation.generate import generate_commits

        loaded = self.engine.loaded
        return lambda request: generate_commits(loaded, request, decoding)

    def evidence(
        self,
        options: Options,
        request: Request,
        text: Sequence[int],
        passes: Sequence[Pass],
        pair: tuple[int, int],
    ) -> Evidence:
        """Whether two tokens behind `text` were tied; see `speculation.ties.evidence`."""
        from specbench.speculation import ties

        return ties.evidence(self.engine, options, request, text, passes, pair)

    def recomputed(self, options: Options, request: Request, text: Sequence[int]) -> Recomputed:
        """Whether a text of the control is what a pass without a cache says: `speculation.recomputation`."""
        from specbench.speculation import recomputation

        return recomputation.recomputed(self.engine, options, request, text)
