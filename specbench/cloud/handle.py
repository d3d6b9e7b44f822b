"""The target model, in the cloud: what all kinds of it have in common, and which kind a profile means."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import TYPE_CHECKING, ClassVar

from specbench.errors import SpecbenchError
from specbench.profile import CloudSpec, Decoding, EngineSpec, LinkSpec, Options
from specbench.roles.role import ModelFactory

if TYPE_CHECKING:
    from typing_extensions import Self

    from specbench.cloud.openai_target import OpenAiTarget
    from specbench.cloud.transport.answers import Metered
    from specbench.cloud.transport.remote_target import RemoteTarget
    from specbench.results.records import Audit, Round
    from specbench.roles.edge import EdgeModel
    from specbench.roles.engine_choice import Begun
    from specbench.speculation.assisted import AssistedGeneration
    from specbench.speculation.colocated import ColocatedTarget
    from specbench.speculation.drafter import ModelDrafter
    from specbench.speculation.recomputation import Recomputed
    from specbench.speculation.request import Needs, Request
    from specbench.speculation.target import LocalTarget
    from specbench.speculation.ties import Evidence, Pass


class CloudModel(ModelFactory):
    """The target model, in the cloud.

    `CloudModel(spec)` makes a `LocalCloud` where the placement is `in_process`, a `LinkedCloud` where a link
    lies before that, and a `RemoteCloud` for any other placement. Each kind has its own `target`, `verifier`,
    `colocated`, `generator`, `evidence` and `recomputed`. They are not marked abstract, because a type checker
    would then refuse `CloudModel(spec)`.

    Args:
        link: what lies between edge and cloud; nothing when absent.
        allow_tf32: the profile's `precision.allow_tf32`, for a process that is started to run the model.
    """

    role = "cloud"
    _spec_type = CloudSpec
    _kinds: ClassVar[dict[str, type[CloudModel]]] = {}
    spec: CloudSpec
    is_split = False
    """Whether this process is one of the ranks that hold the weights together."""

    def __init_subclass__(cls, runs: str | None = None) -> None:
        super().__init_subclass__()
        if runs:
            CloudModel._kinds[runs] = cls

    def __new__(
        cls,
        spec: CloudSpec | None = None,
        engine: EngineSpec | None = None,
        allow_tf32: bool = False,
        link: LinkSpec | None = None,
        **fields: object,
    ) -> Self:
        """The kind of cloud that the placement asks for."""
        kind: type = cls
        if cls is CloudModel:
            placement = fields.get("placement", spec.placement if spec else "in_process")
            here = "here" if link is None or link.is_empty else "behind a link"
            kind = cls._kinds[here if placement == "in_process" else "elsewhere"]
        return super().__new__(kind)

    def __init__(
        self,
        spec: CloudSpec | None = None,
        engine: EngineSpec | None = None,
        allow_tf32: bool = False,
        link: LinkSpec | None = None,
        **fields: object,
    ) -> None:
        super().__init__(spec, engine, **fields)
        self._allow_tf32 = allow_tf32
        self._link_spec = link or LinkSpec()
        self.draft: EdgeModel | None = None
        """What a cloud that speculates by itself drafts with."""
        self.most_edges: int | None = None
        """How many a server of our own is to serve; as many as it does by itself when absent."""

    @property
    def is_here(self) -> bool:
        """Whether the model runs in this process."""
        return self.spec.placement == "in_process"

    @property
    def is_wired(self) -> bool:
        """Whether frames lie between edge and cloud."""
        return True

    def _begin(self) -> Begun:
        self.demand_here()
        return super()._begin()

    def demand_here(self) -> None:
        """Refuse a cloud in another process.

        Raises:
            SpecbenchError: it is in one.
        """
        if not self.is_here:
            raise SpecbenchError(
                f"this needs the cloud model in this process, but cloud.placement is {self.spec.placement}",
                "add --set cloud.placement=in_process",
            )

    @property
    def interruptions(self) -> int:
        """How often the cloud was lost so far."""
        return 0

    @property
    def answers(self) -> int | None:
        """How many answers came out of the link so far; `None` where nothing lies between edge and cloud."""
        return None

    def target(self, options: Options) -> LocalTarget | RemoteTarget | OpenAiTarget:
        """This model as the one that decides the text: prefill, then steps or verifications."""
        raise NotImplementedError

    def verifier(
        self, options: Options, needs: Needs | None = None
    ) -> LocalTarget | RemoteTarget | OpenAiTarget:
        """This model as one that verifies drafts, which takes a cache that can be rolled back.

        Args:
            needs: what else the method asks of it.

        Raises:
            SpecbenchError: its cache cannot be rolled back, or it lacks what is needed.
        """
        raise NotImplementedError

    def colocated(self, edge: EdgeModel, options: Options) -> ColocatedTarget | RemoteTarget:
        """This model as one that speculates by itself: its `decode` drafts with the edge's model.

        Raises:
            SpecbenchError: the cloud has no such draft, another engine than the profile's runs it, or a cache
                cannot be rolled back.
        """
        raise NotImplementedError

    def assisted(self, edge: EdgeModel, options: Options, dynamic: bool) -> AssistedGeneration:
        """`model.generate(assistant_model=...)`, with the edge's model as its assistant.

        Args:
            dynamic: with transformers' own schedule, not the profile's draft length.

        Raises:
            SpecbenchError: an engine is not transformers' own, a cache cannot be rolled back, or edge and
                cloud are apart.
        """
        raise SpecbenchError(
            "assisted generation needs both models in one process, without a link",
            "add --set cloud.placement=in_process and remove the link",
        )

    def self_drafter(self, options: Options, layers: int) -> ModelDrafter:
        """The model's first layers as a draft of their own: the weights are shared, the cache is not.

        Args:
            layers: how many of them, at least 1.

        Raises:
            SpecbenchError: edge and cloud are apart, the engine is compiled, or the model cannot be cut.
        """
        if self.is_wired:
            raise SpecbenchError(
                "self-speculation drafts with the target's own weights, which are beyond the link",
                "add --set cloud.placement=in_process and remove the link",
            )
        if self.engine.kind != "eager":
            raise SpecbenchError(
                f"self-speculation drafts eagerly, and the target's engine is {self.engine.kind}",
                "add --set engine.kind=eager",
            )
        from specbench.engine.eager import EagerEngine
        from specbench.models.prefix import first_layers
        from specbench.speculation.drafter import ModelDrafter

        engine = EagerEngine(first_layers(self.engine.loaded, layers), self.engine.vocabulary_size)
        engine.role = self.role
        engine.require_rollback()
        return ModelDrafter(engine, options)

    def audit_draft(self) -> Audit | None:
        """What precision the draft has that a cloud elsewhere runs now; `None` where it runs none."""
        return None

    def generate(self, request: Request, decoding: Decoding) -> Iterator[Round]:
        """The tokens of `model.generate`, one by one, streamed."""
        return self.generator(decoding)(request)

    def generator(self, decoding: Decoding) -> Callable[[Request], Iterator[Round]]:
        """`generate` for these settings; the cloud hears of them now, not on the clock."""
        raise NotImplementedError

    def evidence(
        self,
        options: Options,
        request: Request,
        text: Sequence[int],
        passes: Sequence[Pass],
        pair: tuple[int, int],
    ) -> Evidence:
        """Whether two tokens behind `text` were tied; see `speculation.ties.evidence`."""
        raise NotImplementedError

    def recomputed(self, options: Options, request: Request, text: Sequence[int]) -> Recomputed:
        """Whether a text of the control is what a pass without a cache says: `speculation.recomputation`."""
        raise NotImplementedError

    def metered(self) -> Metered | None:
        """What the counters of energy say on the cloud's machine; `None` for a server that does not tell."""
        return None

    @property
    def elsewhere(self) -> dict:
        """What a cloud on another machine says of itself, checked against the profile; empty for all others."""
        return {}

    @property
    def goes_on_alone(self) -> bool:
        """Whether the draft goes on by itself when the cloud is lost for good."""
        return self.spec.on_cloud_loss == "edge_only"

    def close(self) -> None:
        """Hang up, and end what was started for this model."""

    def another(self) -> CloudModel:
        """The same cloud, which has been reached, over a connection of its own, as another edge has.

        Where it is a process that ends, the other one starts none.
        """
        return copy(self)

    def _profile_there(self) -> dict:
        """The profile that our own server gets."""
        left_out = {"placement", "token_file", "on_cloud_loss"}
        # Of the edge, on which a draft over there does not run.
        device = {"threads", "cpus", "memory_limit", "helpers"}
        draft = self.draft.spec.model_dump(mode="json", exclude=device) if self.draft else None
        return {
            "edge": draft or {"model": self.spec.model},
            "cloud": self.spec.model_dump(mode="json", exclude=left_out),
            "engine": self.engine_spec.model_dump(mode="json"),
            "precision": {"parity": "off", "allow_tf32": self._allow_tf32},
        }
