"""What a server says of its model and its machine, and not of a text."""

from __future__ import annotations

import threading

from specbench.cloud.server.host import Host
from specbench.cloud.transport import answers, protocol
from specbench.precision import switches


class EdgeCount:
    """How many edges a server is connected to, as one of them is told: the most since it last asked.

    Args:
        most: before it first asks. That may be after its connection was lost, and others came meanwhile.
    """

    def __init__(self, most: int = 1) -> None:
        self._lock = threading.Lock()
        self._now, self._most = 1, most

    def saw(self, edges: int) -> None:
        """So many are connected now, of which one came or left."""
        with self._lock:
            self._now, self._most = edges, max(self._most, edges)

    def most(self) -> int:
        """The answer; the next one is about what happens from now on."""
        with self._lock:
            most, self._most = self._most, self._now
        return most


def about(host: Host, frame: protocol.About, edges: EdgeCount) -> answers.Down:
    """The answer.

    Args:
        edges: that the server is connected to.
    """
    if isinstance(frame, protocol.AskAudit):
        return answers.Audited(frame.number, host.model.audit(), switches.read())
    if isinstance(frame, protocol.AskSpeed):
        return answers.Speed(frame.number, host.model.ceiling().bytes_per_second)
    if isinstance(frame, protocol.AskEnergy):
        return host.metering.told(frame.number, edges.most())
    return answers.Welcome(frame.number, protocol.VERSION, host.facts)
