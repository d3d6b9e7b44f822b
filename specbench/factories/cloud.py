"""The target model, in the cloud: in this process, or behind a wire."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from specbench.ceilings import Ceiling
from specbench.config import CloudSpec, Decoding, EngineSpec, LinkSpec, Options, Speculative
from specbench.errors import CloudLostError, ExitCode, SpecbenchError
from specbench.factories.model import ModelFactory

if TYPE_CHECKING:
    from specbench.decoding.assisted import AssistedGeneration
    from specbench.decoding.colocated import ColocatedTarget
    from specbench.decoding.compiled import CompiledEngine
    from specbench.decoding.drafter import ModelDrafter
    from specbench.decoding.engine import Engine
    from specbench.decoding.proof import Evidence, Pass
    from specbench.decoding.recomputation import Recomputed
    from specbench.decoding.request import Request
    from specbench.decoding.target import LocalTarget
    from specbench.factories.edge import EdgeModel
    from specbench.records import Audit, Round
    from specbench.wire.channel import Channel
    from specbench.wire.client import RemoteTarget
    from specbench.wire.connection import Connection
    from specbench.wire.process import CloudProcess
    from specbench.wire.protocol import Facts

logger = logging.getLogger(__name__)


class CloudModel(ModelFactory):
    """The target model, in the cloud: in this process, or behind a wire.

    Args:
        link: what lies between edge and cloud; nothing when absent.
        allow_tf32: the profile's `precision.allow_tf32`, for a process that is started to run the model.
    """

    role = "cloud"
    _spec_type = CloudSpec
    spec: CloudSpec
    is_split = False
    """Whether this process is one of the ranks that hold the weights together."""

    def __init__(
        self,
        spec: CloudSpec | None = None,
        engine: EngineSpec | None = None,
        allow_tf32: bool = False,
        link: LinkSpec | None = None,
        **fields: object,
    ) -> None:
        super().__init__(spec, engine, **fields)
        if self.spec.ranks > 1 and self.is_here and not self.is_split:
            raise SpecbenchError(
                "cloud.parallel starts a process for each rank, and cloud.placement is in_process",
                "add --set cloud.placement=process",
            )
        self._allow_tf32 = allow_tf32
        self._link_spec = link or LinkSpec()
        self.process: CloudProcess | None = None
        self.draft: EdgeModel | None = None
        """What a cloud that speculates by itself drafts with."""
        self.most_edges: int | None = None
        """How many a server of our own is to serve; as many as it does by itself when absent."""
        self._drafting: Options | None = None  # of a method that has a cloud elsewhere draft
        self._connection: Connection | None = None
        self._asides: dict[Options, RemoteTarget] = {}
        self._is_twin = False

    @property
    def is_here(self) -> bool:
        """Whether the model runs in this process."""
        return self.spec.placement == "in_process"

    @property
    def is_wired(self) -> bool:
        """Whether frames lie between edge and cloud."""
        return not self.is_here or not self._link_spec.is_nothing

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory, here or there."""
        if self.is_here:
            return super().is_loaded
        return self._connection is not None and self._connection.is_open

    def _loaded_engine(self) -> Engine:
        self.demand_here()
        return super()._loaded_engine()

    @property
    def _compiled_type(self) -> type[CompiledEngine]:
        if self.spec.batch.sessions == 1:
            return super()._compiled_type
        from specbench.decoding.packed_compiled import PackedEngine

        return PackedEngine

    def demand_here(self) -> None:
        """Refuse a cloud in another process.

        Raises:
            SpecbenchError: it is in one.
        """
        if not self.is_here:
            raise SpecbenchError(
                f"this needs the cloud model in this process, and cloud.placement is {self.spec.placement}",
                "add --set cloud.placement=in_process",
            )

    @property
    def connection(self) -> Connection:
        """The wire to the cloud; nothing is sent before it is used."""
        if self._connection is None:
            self._connection = self._new_connection()
        return self._connection

    def _new_connection(self) -> Connection:
        from specbench.models import vocabulary
        from specbench.wire.connection import PATIENCE_S, Connection

        patience_s = None if self.spec.on_cloud_loss == "wait" else PATIENCE_S
        tokenizer = vocabulary.fingerprint(self.tokenizer)
        return Connection(self._connect, tokenizer, self._accept, patience_s)

    def load(self) -> None:
        """Load the model, or reach the cloud that has it."""
        if self.is_here:
            super().load()
        if self.is_wired:
            _ = self.connection.facts

    @property
    def engine_kind(self) -> str:
        """Which engine really runs the passes."""
        return super().engine_kind if self.is_here else self.connection.facts.engine

    def ceiling(self) -> Ceiling | None:
        """What memory allows this model, where that is known; a cloud elsewhere has measured that."""
        if self.is_here:
            return super().ceiling()
        facts = self.connection.facts
        speed = facts.bytes_per_second
        if self.measures_memory:
            from specbench.wire.protocol import AskSpeed

            speed = self.connection.insist(AskSpeed).frame.bytes_per_second
        return Ceiling(facts.weight_bytes, speed, facts.reader)

    @property
    def measures_memory(self) -> bool:
        """As of every model; a server that others may use is not asked to read, which would slow them down."""
        return self.is_here or self.spec.placement == "process"

    @property
    def interruptions(self) -> int:
        """How often the cloud was lost so far."""
        return self._connection.interruptions if self._connection else 0

    @property
    def answers(self) -> int | None:
        """How many answers came out of the link so far; `None` where nothing lies between edge and cloud."""
        if not self.is_wired:
            return None
        return self._connection.answers if self._connection else 0

    def target(self, options: Options) -> LocalTarget | RemoteTarget:
        """This model as the one that decides the text: prefill, then steps or verifications."""
        return self._remote(options, rolls_back=False) if self.is_wired else super().target(options)

    def verifier(self, options: Options) -> LocalTarget | RemoteTarget:
        """This model as one that verifies drafts, which takes a cache that can be rolled back.

        Raises:
            SpecbenchError: its cache cannot be rolled back.
        """
        if self.is_wired:
            return self._remote(options, rolls_back=True)
        self.engine.require_rollback()
        return super().target(options)

    def colocated(self, edge: EdgeModel, options: Options) -> ColocatedTarget | RemoteTarget:
        """This model as one that speculates by itself: its `decode` drafts with the edge's model.

        Raises:
            SpecbenchError: the cloud has no such draft, another engine than the profile's runs it, or a cache
                cannot be rolled back.
        """
        if not self.is_wired:
            return self.speculating(edge, options)
        from specbench.factories.agreement import demand_engine

        self.draft = edge
        target = self._remote(options, rolls_back=True, draft=edge.fingerprint)
        if not self.is_here:
            demand_engine(target.drafting.engine, self.engine_spec)
            self._drafting = options
        return target

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
                "add --set cloud.placement=in_process and leave out the link",
            )
        if self.engine.kind != "eager":
            raise SpecbenchError(
                f"self-speculation drafts eagerly, and the target's engine is {self.engine.kind}",
                "add --set engine.kind=eager",
            )
        from specbench.decoding.drafter import ModelDrafter
        from specbench.decoding.eager import EagerEngine
        from specbench.models.prefix import first_layers

        engine = EagerEngine(first_layers(self.engine.loaded, layers), self.engine.vocabulary_size)
        engine.role = self.role
        engine.require_rollback()
        return ModelDrafter(engine, options)

    def audit_draft(self) -> Audit | None:
        """What precision the draft has that a cloud elsewhere runs now; `None` where it runs none."""
        if self._drafting is None or self.draft is None:
            return None
        return self._remote(self._drafting, rolls_back=True, draft=self.draft.fingerprint).drafting.audit

    def speculating(self, draft: EdgeModel, options: Options) -> ColocatedTarget:
        """As `colocated`, in this process and with nothing between."""
        from specbench.decoding.colocated import ColocatedTarget

        self.engine.require_rollback()
        return ColocatedTarget(self.engine, options, draft.drafter(options))

    def generate(self, request: Request, decoding: Decoding) -> Iterator[Round]:
        """The tokens of `model.generate`, one by one, streamed."""
        return self.generator(decoding)(request)

    def generator(self, decoding: Decoding) -> Callable[[Request], Iterator[Round]]:
        """`generate` for these settings; the cloud hears of them now, not on the clock."""
        if self.is_wired:
            return self._aside(Options(decoding, Speculative())).generate
        from specbench.decoding.generate import generate_commits

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
        """Whether two tokens behind `text` were tied; see `decoding.proof.evidence`."""
        if not self.is_here:
            return self._aside(options).prove(request, text, passes, pair)
        from specbench.decoding import proof

        return proof.evidence(self.engine, options, request, text, passes, pair)

    def recomputed(self, options: Options, request: Request, text: Sequence[int]) -> Recomputed:
        """Whether a text of the control is what a pass without a cache says; see `decoding.recomputation`."""
        if not self.is_here:
            return self._aside(options).recompute(request, text)
        from specbench.decoding import recomputation

        return recomputation.recomputed(self.engine, options, request, text)

    def audit(self) -> Audit:
        """What precision the loaded model really has."""
        if self.is_here:
            return super().audit()
        from specbench.audit import switches
        from specbench.wire import protocol

        found = self.connection.insist(protocol.AskAudit).frame
        wrong = switches.findings(found.switches, self._allow_tf32)
        if wrong and not found.audit.problem:  # the arithmetic there is part of what the cloud is
            return replace(found.audit, problem=f"cloud: {wrong[0].message}")
        return found.audit

    @property
    def elsewhere(self) -> dict:
        """What a cloud on another machine says of itself; reached, and held against the profile, here."""
        facts = self.connection.facts
        return {
            "files": facts.files,
            "stored": list(facts.stored),
            "threads": facts.threads,
            "batch": {"sessions": facts.sessions, "wait_ms": facts.wait_ms if facts.sessions > 1 else None},
            "versions": facts.versions,
            "machine": {key: value for key, value in facts.machine.items() if key != "memory_bytes"},
        }

    @property
    def goes_on_alone(self) -> bool:
        """Whether the draft goes on by itself when the cloud is lost for good."""
        return self.spec.on_cloud_loss == "edge_only"

    def close(self) -> None:
        """Hang up, and end what was started for this model."""
        if self._connection:
            self._connection.close()
            self._connection = None
            self._asides.clear()
        if self.process:
            self.process.stop()
            self.process = None

    def another(self) -> CloudModel:
        """The same cloud, which has been reached, over a connection of its own, as another edge has.

        Where it is a process that ends, the other one starts none.
        """
        twin = copy(self)
        twin._is_twin = True
        twin._connection = None
        twin._asides = {}
        return twin

    def _aside(self, options: Options) -> RemoteTarget:
        """What is asked for things that are no text of a method's; one for all that ask with these options."""
        if options not in self._asides:
            self._asides[options] = self._remote(options, rolls_back=False)
        return self._asides[options]

    def _remote(self, options: Options, rolls_back: bool, draft: str | None = None) -> RemoteTarget:
        from specbench.wire.client import RemoteTarget

        return RemoteTarget(self.connection, options, rolls_back, draft)

    def _connect(self) -> Channel:
        """A channel to the cloud, which is started first where that is our business."""
        from specbench.factories.served import Served
        from specbench.wire import emulated
        from specbench.wire.local_channel import LocalChannel
        from specbench.wire.socket import BRIEF_OPEN_S, OPEN_S, SocketChannel
        from specbench.wire.tokens import read_token

        if self.is_here:
            served = Served(self)
            _ = served.facts  # loads the model in this thread, where errors are heard
            return self._behind_link(LocalChannel(served))
        if self.spec.placement != "process":
            token = read_token(Path(self.spec.token_file)) if self.spec.token_file else None
            open_s = BRIEF_OPEN_S if self.connection.has_given_up else OPEN_S
            return self._behind_link(SocketChannel(self.spec.placement, token, open_s))
        if self.process is None or not self.process.is_alive:
            self._start_process()
        assert self.process is not None
        with self._beyond(emulated.EDGE):
            return self._behind_link(SocketChannel(self.process.url, self.process.token))

    def _start_process(self) -> None:
        """Start our own server, for the first time or because it has ended.

        Raises:
            ChannelLostError: one that has ended does not start again.
            SpecbenchError: the server's own reason for not starting.
        """
        from specbench.models.confinement import lifted
        from specbench.wire import emulated
        from specbench.wire.channel import ChannelLostError
        from specbench.wire.process import LOOPBACK, CloudProcess

        if self._is_twin:  # one server is everybody's, and its end is heard by all
            raise CloudLostError("the cloud's process has ended", "start again", ExitCode.RUN)
        if self.connection.has_given_up:  # nobody else starts it
            raise ChannelLostError("its process has ended")
        if self.process:
            logger.warning("the cloud's process has ended, %s", self.process.end)
            self.process.stop()
            self.process = None
        host = emulated.ADDRESSES[emulated.CLOUD] if self._link_spec.kind == "emulated" else LOOPBACK
        logger.info("starting the cloud's process")
        try:
            with lifted(), self._beyond(emulated.CLOUD):
                served, threads = self._profile_there(), self.spec.threads
                self.process = CloudProcess(served, threads, host, most_edges=self.most_edges)
        except SpecbenchError as error:
            if not self.connection.is_open:
                raise
            raise ChannelLostError(error.message) from error  # what is to be done then, the profile says

    def _beyond(self, namespace: str) -> AbstractContextManager:
        """One end of the emulated link, where the profile has one."""
        from specbench.wire import emulated

        return emulated.inside(namespace) if self._link_spec.kind == "emulated" else nullcontext()

    def _behind_link(self, channel: Channel) -> Channel:
        """The channel as the profile's link leaves it."""
        if self._link_spec.kind != "modelled" or self._link_spec.is_nothing:
            return channel
        from specbench.wire.link import Link
        from specbench.wire.linked import LinkedChannel

        return LinkedChannel(channel, Link(self._link_spec))

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

    def _accept(self, facts: Facts) -> None:
        """Refuse a cloud that is not the one that the profile means."""
        from specbench.factories.agreement import demand_meant

        if not self.is_here:
            demand_meant(facts, self.spec, self.engine_spec, self.folder)

    def assisted(self, edge: EdgeModel, options: Options, dynamic: bool) -> AssistedGeneration:
        """`model.generate(assistant_model=...)`, with the edge's model as its assistant.

        Args:
            dynamic: with transformers' own schedule, not the profile's draft length.

        Raises:
            SpecbenchError: an engine is not transformers' own, a cache cannot be rolled back, or edge and
                cloud are apart.
        """
        if self.is_wired:
            raise SpecbenchError(
                "assisted generation runs both models in one loop, with nothing between edge and cloud",
                "add --set cloud.placement=in_process and leave out the link",
            )
        from specbench.decoding.assisted import AssistedGeneration

        for model in (edge, self):
            if model.engine.kind != "eager":
                raise SpecbenchError(
                    f"assisted generation runs transformers' own passes, and the {model.role}'s engine is "
                    f"{model.engine.kind}",
                    "add --set engine.kind=eager",
                )
            model.engine.require_rollback()
        return AssistedGeneration(
            self.engine.loaded, edge.engine.loaded, edge.draft_vocabulary, options, dynamic
        )
