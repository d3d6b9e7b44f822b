"""`specbench serve`: one loaded model, many edges. Nothing that an edge sends ends it."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import http
import logging
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specbench.clock import now_ms
from specbench.cloud.server.about import EdgeCount
from specbench.cloud.server.arrivals import Arrival, followers
from specbench.cloud.server.batcher import Batcher
from specbench.cloud.server.host import Host
from specbench.cloud.server.service import Service
from specbench.cloud.transport import answers, protocol
from specbench.cloud.transport.fields import MAX_FRAME_BYTES
from specbench.cloud.transport.socket import PING_S, PONG_S
from specbench.engine.batch import Steps
from specbench.engine.session import Block
from specbench.engine.threads import model_thread, release_compute_threads
from specbench.profile import Batch

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

logger = logging.getLogger(__name__)

TRY_AGAIN_LATER, POLICY_VIOLATION, INTERNAL_ERROR = 1013, 1008, 1011  # RFC 6455, section 7.4.1
MOST_REASON = 120  # letters; section 5.5 allows 123 bytes


@dataclass(frozen=True)
class Patience:
    """How long the server waits for what, in seconds; all bound the time that a vanished edge's cache lives.

    Args:
        hello: for an edge's first frame.
        idle: for its next one.
        send: for an edge that does not read.
        working: between signs of life while an answer is computed.
        ping: between pings; an edge that does not answer one within `pong` is gone.
    """

    hello: float = 10.0
    idle: float = 600.0
    send: float = 20.0
    working: float = 5.0
    ping: float = PING_S
    pong: float = PONG_S


class Server:
    """Serves one model over WebSockets; all forward passes run one after the other in one thread.

    Args:
        token: what edges must show; `None` asks for nothing.
        batch: how many edges share a pass; none where it is absent.
    """

    def __init__(
        self,
        host: Host,
        token: str | None,
        max_sessions: int,
        patience: Patience | None = None,
        batch: Batch | None = None,
    ) -> None:
        self._host = host
        self._token = token
        self._max_sessions = max_sessions
        self._patience = patience or Patience()
        self._batch = batch or Batch()
        self._batcher: Batcher | None = None
        self._sessions: dict[ServerConnection, Service] = {}
        self._connections = 0  # that there ever were
        self.turn = threading.Lock()
        """Held by whoever computes, for an edge of `piped` has a thread of its own."""

    @property
    def sessions(self) -> int:
        """Edges that are connected."""
        return len(self._sessions)

    @contextlib.asynccontextmanager
    async def listening(self, address: str, port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        """Serve while inside; yields the port, which is chosen by the system where 0 was asked for.

        Raises:
            OSError: the address cannot be listened at.
        """
        from websockets.asyncio.server import serve

        quiet = logging.getLogger(f"{__name__}.websockets")  # what edges do wrong is logged here, in our words
        quiet.disabled = True
        release_compute_threads()  # this thread has loaded the model
        async with contextlib.AsyncExitStack() as stack:
            self._worker = stack.enter_context(model_thread())
            if self._batch.sessions > 1:
                self._batcher = Batcher(self._worker, self._host.pass_together, self._batch, self._decoding)
                await stack.enter_async_context(self._batcher)
            async with serve(
                self._serve,
                address,
                port,
                ssl=tls,
                compression=None,
                max_size=MAX_FRAME_BYTES,
                max_queue=4,
                ping_interval=self._patience.ping,
                ping_timeout=self._patience.pong,
                close_timeout=1,
                process_request=self._admit,
                origins=[None],  # no web page is an edge
                logger=quiet,
            ) as server:
                yield server.sockets[0].getsockname()[1]

    async def dismiss(self, reason: str) -> None:
        """Hang up on all edges, and say why."""
        await asyncio.gather(*(edge.close(INTERNAL_ERROR, reason[:MOST_REASON]) for edge in self._sessions))

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse an edge that does not show the token."""
        if self._token is None:
            return None
        shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if hmac.compare_digest(shown.encode(errors="surrogateescape"), self._token.encode()):
            return None
        reason = "its token is wrong" if shown else "it shows no token"
        logger.warning("refused an edge at %s: %s", _peer(connection), reason)
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, f"{reason}\n")

    async def _serve(self, connection: ServerConnection) -> None:
        """One edge, from its first frame to its end."""
        if len(self._sessions) >= self._max_sessions:
            logger.warning(
                "refused an edge at %s: %d are connected already", _peer(connection), self._max_sessions
            )
            await connection.close(TRY_AGAIN_LATER, f"the cloud serves {self._max_sessions} edges already")
            return
        logger.info("an edge connected from %s", _peer(connection))
        self._connections += 1
        service = self._sessions[connection] = Service(self._host, EdgeCount(self._connections))
        self._count_edges()
        inbox: asyncio.Queue[Arrival | None] = asyncio.Queue(4)
        reader = asyncio.create_task(_read(connection, inbox))
        reason = "it left"
        try:
            reason = await self._converse(connection, service, inbox)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        finally:
            reader.cancel()
            self._worker.submit(service.close)  # behind the pass that may still be under way
            del self._sessions[connection]
            self._count_edges()
            if self._batcher:
                self._batcher.look_again()
            logger.info("the edge at %s disconnected: %s", _peer(connection), reason)
            if service.dropped:
                logger.info(
                    "of its %d drafts %d were dropped behind a refusal, %d of them unread",
                    service.drafts,
                    service.dropped,
                    service.dropped_unread,
                )

    async def _converse(
        self,
        connection: ServerConnection,
        service: Service,
        inbox: asyncio.Queue[Arrival | None],
    ) -> str:
        """Answer frames until one side ends it; returns why."""
        patience_s = self._patience.hello
        held: list[Arrival | None] = []
        while True:
            try:
                item = held[0] if held else await asyncio.wait_for(inbox.get(), patience_s)
            except asyncio.TimeoutError:
                reason = f"no frame came for {patience_s:.0f} s"
                await connection.close(POLICY_VIOLATION, reason)
                return reason
            if item is None:
                return "it left"
            patience_s = self._patience.idle
            message, arrived_ms = item
            following, held = followers(message, inbox)
            asked = message if isinstance(message, bytes) else message.encode(), arrived_ms, following
            replies: Steps[bytes] = service.steps(*asked) if self._batcher else service.handle(*asked)
            try:
                while (reply := await self._next(replies, connection, service)) is not None:
                    await asyncio.wait_for(connection.send(reply), self._patience.send)
                    if service.streams and not inbox.empty():  # the edge reads it no further
                        break
            finally:
                if self._batcher:
                    self._batcher.give_up(replies)
                self._worker.submit(replies.close)  # before whatever comes next, and never in the event loop
            if service.is_over:
                return "it said goodbye" if service.refusal is None else service.refusal

    async def _next(
        self, replies: Steps[bytes], connection: ServerConnection, service: Service
    ) -> bytes | None:
        """The next reply, computed in the model's thread; with a sign of life while that takes long."""
        future = self._batcher.next(replies) if self._batcher else self._in_worker(self._step, replies)
        while True:
            done, _ = await asyncio.wait([future], timeout=self._patience.working)
            if done:
                return future.result()
            await connection.send(protocol.encode(answers.Working(service.last)))

    def _step(self, replies: Steps[bytes]) -> Block | bytes | None:
        with self.turn:
            return next(replies, None)

    def _count_edges(self) -> None:
        for service in self._sessions.values():
            service.edges.saw(self.sessions)

    def _decoding(self) -> int:
        """Edges in the midst of a text."""
        return sum(service.is_decoding for service in self._sessions.values())

    def _in_worker(self, function: Callable, *arguments: object) -> asyncio.Future:
        return asyncio.get_running_loop().run_in_executor(self._worker, function, *arguments)

    _worker: ThreadPoolExecutor


async def _read(connection: ServerConnection, inbox: asyncio.Queue[Arrival | None]) -> None:
    """Hand over what arrives, with its time; `None` when there will be nothing more."""
    from websockets.exceptions import ConnectionClosed

    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            await inbox.put((message, now_ms()))
    await inbox.put(None)


def _peer(connection: ServerConnection) -> str:
    address = connection.remote_address
    return f"{address[0]}:{address[1]}" if address else "?"
