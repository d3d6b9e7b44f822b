"""The edge that has started this server, through a pipe: the thread that gets a frame answers it."""

from __future__ import annotations

import logging
import queue
import socket
import threading
from collections.abc import Iterator

from specbench.clock import now_ms
from specbench.cloud.server.conversation import converse
from specbench.cloud.server.host import Host
from specbench.cloud.server.service import Service
from specbench.cloud.transport import answers, protocol
from specbench.cloud.transport.channel import ChannelLostError
from specbench.cloud.transport.pipe import Pipe
from specbench.engine.batch import Results
from specbench.engine.threads import model_thread

logger = logging.getLogger(__name__)

WORKING_S = 5.0


class PipedEdge:
    """Serves one edge until it hangs up.

    Args:
        descriptor: of this end of the pipe.
        turn: held while a reply is computed.
        working_s: between signs of life while that takes long.
    """

    def __init__(self, host: Host, descriptor: int, turn: threading.Lock, working_s: float = WORKING_S) -> None:
        self._pipe = Pipe(socket.socket(fileno=descriptor))
        self._service, self._turn = Service(host), turn
        self._is_over = threading.Event()
        self._busy_since_ms: float | None = None
        self._working_s = working_s
        self._thread = model_thread()
        self._thread.submit(self._serve)
        threading.Thread(target=self._give_signs, name="specbench signs of life", daemon=True).start()

    def get(self) -> tuple[bytes, float] | None:
        """As of `conversation.WaitingInbox`."""
        try:
            return self._pipe.receive()
        except ChannelLostError:
            return None

    def get_nowait(self) -> tuple[bytes, float] | None:
        """As of `conversation.WaitingInbox`."""
        if self._pipe.is_empty():
            raise queue.Empty
        return self.get()

    def empty(self) -> bool:
        """As of `conversation.WaitingInbox`."""
        return self._pipe.is_empty()

    def close(self) -> None:
        """Hang up, and wait for the pass that is under way."""
        self._pipe.close()
        self._thread.shutdown()

    def _serve(self) -> None:
        logger.info("the edge connected through a pipe")
        reason = "it left"
        try:
            converse(self._service, self, self._answer)
        except ChannelLostError:
            pass
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        finally:
            self._is_over.set()
            if self._service.is_over:
                reason = self._service.refusal or "it said goodbye"
            self._service.close()
            self._pipe.close()
            logger.info("the edge at the pipe disconnected: %s", reason)

    def _answer(self, replies: Results[bytes]) -> Iterator[None]:
        while True:
            self._busy_since_ms = now_ms()
            with self._turn:
                reply = next(replies, None)
            self._busy_since_ms = None
            if reply is None:
                return
            self._pipe.send(reply)
            yield

    def _give_signs(self) -> None:
        while not self._is_over.wait(self._working_s):
            since_ms = self._busy_since_ms
            if since_ms is not None and now_ms() - since_ms >= 1000 * self._working_s:
                try:
                    self._pipe.send(protocol.encode(answers.Working(self._service.last)))
                except ChannelLostError:
                    return
