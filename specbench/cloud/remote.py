"""The target model in another process: one that is started here, or a server at an address."""

from __future__ import annotations

import logging
import select
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specbench.cloud.server_matches_profile import demand_engine, demand_meant
from specbench.cloud.wired import WiredCloud
from specbench.errors import CloudLostError, ExitCode, SpecbenchError
from specbench.profile import Options
from specbench.results.ceilings import Ceiling

if TYPE_CHECKING:
    from specbench.cloud.server_process import CloudProcess
    from specbench.cloud.transport.answers import Metered, Opened
    from specbench.cloud.transport.channel import Channel
    from specbench.cloud.transport.facts import Facts
    from specbench.cloud.transport.remote_target import RemoteTarget
    from specbench.results.records import Audit
    from specbench.roles.edge import EdgeModel
    from specbench.speculation.recomputation import Recomputed
    from specbench.speculation.request import Request
    from specbench.speculation.ties import Evidence, Pass

logger = logging.getLogger(__name__)


class RemoteCloud(WiredCloud, runs="elsewhere"):
    """The target model in another process."""

    def __init__(self, *arguments: Any, **fields: Any) -> None:
        super().__init__(*arguments, **fields)
        self.process: CloudProcess | None = None
        self._drafting: Options | None = None  # of a method that has the cloud draft
        self._is_twin = False

    @property
    def is_loaded(self) -> bool:
        """Whether the cloud was reached."""
        return self._connection is not None and self._connection.is_open

    @property
    def engine_kind(self) -> str:
        """Which engine really runs the passes."""
        return self.connection.facts.engine

    def ceiling(self) -> Ceiling:
        """What memory allows this model, as the cloud has measured it."""
        facts = self.connection.facts
        speed = facts.bytes_per_second
        if self.measures_memory:
            from specbench.cloud.transport.answers import Speed
            from specbench.cloud.transport.protocol import AskSpeed

            speed = self.connection.insist(AskSpeed).of(Speed).bytes_per_second
        return Ceiling(facts.weight_bytes, speed, facts.reader)

    @property
    def measures_memory(self) -> bool:
        """As of every model; a server that others may use is not asked to read, which would slow them down."""
        return self.spec.placement == "process"

    def colocated(self, edge: EdgeModel, options: Options) -> RemoteTarget:
        """As of every cloud, by frames; the engine there must be the profile's."""
        target = super().colocated(edge, options)
        demand_engine(_opened(target).engine, self.engine_spec)
        self._drafting = options
        return target

    def audit_draft(self) -> Audit | None:
        """What precision the draft has that a cloud elsewhere runs now; `None` where it runs none."""
        if self._drafting is None or self.draft is None:
            return None
        target = self._remote(self._drafting, rolls_back=True, draft=self.draft.fingerprint)
        return _opened(target).audit

    def evidence(
        self,
        options: Options,
        request: Request,
        text: Sequence[int],
        passes: Sequence[Pass],
        pair: tuple[int, int],
    ) -> Evidence:
        """As of every cloud, computed there."""
        return self._aside(options).prove(request, text, passes, pair)

    def recomputed(self, options: Options, request: Request, text: Sequence[int]) -> Recomputed:
        """As of every cloud, computed there."""
        return self._aside(options).recompute(request, text)

    def audit(self) -> Audit:
        """What precision the loaded model really has."""
        from specbench.cloud.transport import answers, protocol
        from specbench.precision import switches

        found = self.connection.insist(protocol.AskAudit).of(answers.Audited)
        wrong = switches.findings(found.switches, self._allow_tf32)
        if wrong and not found.audit.problem:  # the arithmetic there is part of what the cloud is
            return replace(found.audit, problem=f"cloud: {wrong[0].message}")
        return found.audit

    def metered(self) -> Metered:
        """As of every cloud, by a frame."""
        from specbench.cloud.transport import answers, protocol

        return self.connection.insist(protocol.AskEnergy).of(answers.Metered)

    @property
    def elsewhere(self) -> dict:
        """What a cloud on another machine says of itself; reached, and held against the profile, here."""
        facts = self.connection.facts
        there = facts.profile
        return {
            "files": facts.files,
            "stored": list(facts.stored),
            "threads": there.threads,
            "batch": {"sessions": there.sessions, "wait_ms": there.wait_ms if there.sessions > 1 else None},
            "versions": facts.versions,
            "machine": {key: value for key, value in facts.machine.items() if key != "memory_bytes"},
        }

    def close(self) -> None:
        """Hang up, and end the process that was started for this model; a twin leaves that to the first."""
        super().close()
        if self.process and not self._is_twin:
            self.process.stop()
            self.process = None

    def another(self) -> RemoteCloud:
        """As of every cloud; it starts no process."""
        twin = super().another()
        assert isinstance(twin, RemoteCloud)
        twin._is_twin = True
        return twin

    def _connect(self) -> Channel:
        """A channel to the cloud, which is started first where that is our business."""
        from specbench.cloud.link import emulated
        from specbench.cloud.transport.pipe import PipeChannel
        from specbench.cloud.transport.socket import BRIEF_OPEN_S, OPEN_S, SocketChannel
        from specbench.cloud.transport.token import read_token

        if self.spec.placement != "process":
            token = read_token(Path(self.spec.token_file)) if self.spec.token_file else None
            open_s = BRIEF_OPEN_S if self.connection.has_given_up else OPEN_S
            return self._behind_link(SocketChannel(self.spec.placement, token, open_s))
        if self.process is None or not self.process.is_alive:
            self._start_process()
        assert self.process is not None
        if pipe := self.process.take_pipe():
            return self._behind_link(PipeChannel(pipe))
        with self._beyond(emulated.EDGE):
            return self._behind_link(SocketChannel(self.process.url, self.process.token))

    def _start_process(self) -> None:
        """Start our own server, for the first time or because it has ended.

        Raises:
            ChannelLostError: one that has ended does not start again.
            SpecbenchError: the server's own reason for not starting.
        """
        from specbench.cloud.link import emulated
        from specbench.cloud.server_process import LOOPBACK, CloudProcess
        from specbench.cloud.transport.channel import ChannelLostError
        from specbench.models.confinement import lifted

        if self._is_twin:  # one server is everybody's, and its end is heard by all
            raise CloudLostError(
                "the cloud process has ended", "resume with 'specbench run --resume RUN'", ExitCode.RUN
            )
        if self.connection.has_given_up:  # nobody else starts it
            raise ChannelLostError("its process has ended")
        if self.process:
            logger.warning("the cloud process has ended, %s", self.process.end)
            self.process.stop()
            self.process = None
        host = emulated.ADDRESSES[emulated.CLOUD] if self._link_spec.kind == "emulated" else LOOPBACK
        logger.info("starting the cloud process")
        try:
            with lifted(), self._beyond(emulated.CLOUD):
                served, threads = self._profile_there(), self.spec.threads
                self.process = CloudProcess(
                    served, threads, host, most_edges=self.most_edges, is_piped=self._is_piped
                )
        except SpecbenchError as error:
            if not self.connection.is_open:
                raise
            raise ChannelLostError(error.message) from error  # what is to be done then, the profile says

    @property
    def _is_piped(self) -> bool:
        """Whether frames to our own process need no WebSocket: where one edge asks, and one thread answers."""
        is_alone = self.most_edges is None and self.spec.ranks == 1 and self.spec.batch.sessions == 1
        return is_alone and self._link_spec.kind != "emulated" and hasattr(select, "poll")

    def _beyond(self, namespace: str) -> AbstractContextManager:
        """One end of the emulated link, where the profile has one."""
        from specbench.cloud.link import emulated

        return emulated.inside(namespace) if self._link_spec.kind == "emulated" else nullcontext()

    def _accept(self, facts: Facts) -> None:
        if self.process and facts.engine_note:
            logger.info(facts.engine_note)
        demand_meant(facts, self.spec, self.engine_spec, self.folder)


def _opened(target: RemoteTarget) -> Opened:
    """What the cloud said of its draft, when the target was opened with one."""
    assert target.drafting is not None
    return target.drafting
