"""The target model behind a connection, wherever the model is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from specbench.cloud.handle import CloudModel
from specbench.profile import Decoding, Options, Speculative

if TYPE_CHECKING:
    from specbench.cloud.transport.channel import Channel
    from specbench.cloud.transport.connection import Connection
    from specbench.cloud.transport.facts import Facts
    from specbench.cloud.transport.place import RemotePlace
    from specbench.cloud.transport.remote_target import RemoteTarget
    from specbench.results.records import Round
    from specbench.roles.edge import EdgeModel
    from specbench.speculation.assisted import AssistedGeneration
    from specbench.speculation.request import Needs, Request


class WiredCloud(CloudModel):
    """The target model behind a connection; `_connect` says what that leads to."""

    def __init__(self, *arguments: Any, **fields: Any) -> None:
        super().__init__(*arguments, **fields)
        self._connection: Connection | None = None
        self._asides: dict[Options, RemotePlace] = {}

    @property
    def is_wired(self) -> bool:
        """Whether frames lie between edge and cloud."""
        return True

    @property
    def connection(self) -> Connection:
        """The wire to the cloud; nothing is sent before it is used."""
        if self._connection is None:
            self._connection = self._new_connection()
        return self._connection

    def _new_connection(self) -> Connection:
        from specbench.cloud.transport.connection import PATIENCE_S, Connection
        from specbench.models import vocabulary

        patience_s = None if self.spec.on_cloud_loss == "wait" else PATIENCE_S
        tokenizer = vocabulary.fingerprint(self.tokenizer)
        return Connection(self._connect, tokenizer, self._accept, patience_s)

    def load(self) -> None:
        """Reach the cloud."""
        _ = self.connection.facts

    @property
    def interruptions(self) -> int:
        """How often the cloud was lost so far."""
        return self._connection.interruptions if self._connection else 0

    @property
    def answers(self) -> int:
        """How many answers came out of the link so far."""
        return self._connection.answers if self._connection else 0

    def target(self, options: Options) -> RemoteTarget:
        """As of every cloud, by frames."""
        return self._remote(options, rolls_back=False)

    def verifier(self, options: Options, needs: Needs | None = None) -> RemoteTarget:
        """As of every cloud, by frames."""
        return self._remote(options, rolls_back=True, needs=needs)

    def colocated(self, edge: EdgeModel, options: Options) -> RemoteTarget:
        """As of every cloud, by frames."""
        self.draft = edge
        return self._remote(options, rolls_back=True, draft=edge.fingerprint)

    def assisted(self, edge: EdgeModel, options: Options, dynamic: bool) -> AssistedGeneration:
        """Refuse, as every cloud that is apart from the edge."""
        return CloudModel.assisted(self, edge, options, dynamic)

    def generator(self, decoding: Decoding) -> Callable[[Request], Iterator[Round]]:
        """As of every cloud, by frames."""
        return self._aside(Options(decoding, Speculative())).generate

    def close(self) -> None:
        """Hang up."""
        if self._connection:
            self._connection.close()
            self._connection = None
            self._asides.clear()

    def another(self) -> WiredCloud:
        """As of every cloud: over a connection of its own."""
        twin = super().another()
        assert isinstance(twin, WiredCloud)
        twin._connection = None
        twin._asides = {}
        return twin

    def _aside(self, options: Options) -> RemotePlace:
        """What is asked for things that are no text of a method's; one for all that ask with these options."""
        if options not in self._asides:
            from specbench.cloud.transport.place import RemotePlace

            self._asides[options] = RemotePlace(self.connection, options, rolls_back=False)
        return self._asides[options]

    def _remote(
        self, options: Options, rolls_back: bool, draft: str | None = None, needs: Needs | None = None
    ) -> RemoteTarget:
        from specbench.cloud.transport.remote_target import RemoteTarget
        from specbench.cloud.transport.switching_target import SwitchingTarget

        kind = SwitchingTarget if rolls_back and draft is None else RemoteTarget
        return kind(self.connection, options, rolls_back, draft, needs)

    def _connect(self) -> Channel:
        """A channel to the cloud."""
        raise NotImplementedError

    def _accept(self, facts: Facts) -> None:
        """Refuse a cloud that is not the one that the profile means."""

    def _behind_link(self, channel: Channel) -> Channel:
        """The channel as the profile's link leaves it."""
        if self._link_spec.kind != "modelled" or self._link_spec.is_empty:
            return channel
        from specbench.cloud.link.delayed_channel import LinkedChannel
        from specbench.cloud.link.modelled import Link

        return LinkedChannel(channel, Link(self._link_spec))
