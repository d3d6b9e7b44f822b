"""A channel to a service in a thread of this process."""

from __future__ import annotations

import queue
from collections.abc import Iterator

from specbench.clock import now_ms
from specbench.cloud.server.conversation import converse
from specbench.cloud.server.host import Host
from specbench.cloud.server.service import Service
from specbench.cloud.transport.channel import Channel
from specbench.engine.batch import Results
from specbench.engine.threads import model_thread, release_compute_threads


class LocalChannel(Channel):
    """The service in a thread of this process: what a modelled link stands before where nothing else is."""

    shares_process = True

    def __init__(self, host: Host) -> None:
        self._inbox: queue.SimpleQueue[tuple[bytes, float] | None] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[bytes | BaseException] = queue.SimpleQueue()
        self._service = Service(host)
        self._thread = model_thread()
        self._thread.submit(self._serve)

    def send(self, message: bytes) -> None:
        """Wake the service."""
        self._inbox.put((message, now_ms()))

    def receive(self, timeout_s: float | None = None) -> bytes:
        """The service's next reply."""
        try:
            item = self._outbox.get(timeout_s != 0, timeout_s)
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(item, BaseException):
            self._outbox.put(item)  # for whoever asks again: nobody serves any more
            raise item
        return item

    def close(self) -> None:
        """End the thread."""
        self._inbox.put(None)
        self._thread.shutdown()

    def _answer(self, replies: Results[bytes]) -> Iterator[None]:
        try:
            for reply in replies:
                self._outbox.put(reply)
                yield
        finally:
            release_compute_threads()

    def _serve(self) -> None:
        try:
            converse(self._service, self._inbox, self._answer)
        except BaseException as error:
            self._outbox.put(error)
        finally:
            self._service.close()
