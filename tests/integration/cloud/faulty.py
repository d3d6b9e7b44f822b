"""A socket that does something wrong to one message."""

import random
from collections import deque

from specbench.cloud.transport import protocol
from specbench.cloud.transport.channel import Channel
from specbench.cloud.transport.connection import Connection
from specbench.cloud.transport.fields import MAX_FRAME_BYTES
from specbench.cloud.transport.socket import SocketChannel
from specbench.models import vocabulary
from specbench.profile import Decoding, Options, Speculative
from specbench.speculation.request import Request

GREEDY = Options(Decoding(), Speculative())
SAMPLED = Options(Decoding(temperature=1.0), Speculative(verification="rejection"))
REQUEST = Request(tuple(range(10, 40)), 24, frozenset(), seed=7)


class Faulty(Channel):
    """A socket that does something wrong to one message, and counts that it did."""

    def __init__(self, url, faults):
        self._socket, self._faults = SocketChannel(url), faults
        self._sent = self._received = 0
        self._parts = deque()
        self.silence_s = 10.0

    def send(self, message):
        self._sent += 1
        for part in self._becomes("send", self._sent, message):
            self._socket.send(part)

    def receive(self, timeout_s=None):
        while not self._parts:
            message = self._socket.receive(timeout_s and min(timeout_s, self.silence_s))
            self._received += 1
            self._parts.extend(self._becomes("receive", self._received, message))
        return self._parts.popleft()

    def _becomes(self, way, number, message):
        fault = self._faults.pop((way, number), None)
        if fault is lost:
            self.silence_s = 0.2  # nothing will break it
        return fault(self._socket, message) if fault else [message]

    def close(self):
        self._socket.close()


def cut_before(socket, message):
    socket.close()
    return [message]


def cut_during(socket, message):
    socket.send(message)
    socket.close()
    return []


def cut_after(socket, message):
    socket.close()
    return [message]


def lost(socket, message):
    return []


def repeated(socket, message):
    return [message, message]


def truncated(socket, message):
    return [message[:-2]]


def noise(socket, message):
    return [random.Random(1).randbytes(40)]


def oversized(socket, message):
    return [message + bytes(MAX_FRAME_BYTES)]


def out_of_order(socket, message):
    frame = protocol.decode_up(message)
    return [protocol.encode(protocol.Verify(frame.number + 1, frame.text, frame.tokens, frame.distributions))]


def other_tag(socket, message):
    return [b"\x93\x63" + message[2:]]


def connected(url, cloud, faults=None, patience_s=10.0):
    faults = {} if faults is None else faults
    return Connection(
        lambda: Faulty(url, faults),
        vocabulary.fingerprint(cloud.tokenizer),
        lambda facts: None,
        patience_s,
    )
