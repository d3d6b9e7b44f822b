"""What goes wrong between edge and cloud, one by one; every test proves that its fault came about."""

import random
import socket
import time
from collections import deque

import msgspec
import pytest
from builders import speculated
from conftest import wait_until

from specbench.api import CloudLostError
from specbench.cloud import CloudModel
from specbench.cloud.transport import connection as wire
from specbench.cloud.transport import protocol
from specbench.cloud.transport.channel import Channel, ChannelLostError
from specbench.cloud.transport.connection import Connection
from specbench.cloud.transport.remote_target import RemoteTarget
from specbench.cloud.transport.socket import SocketChannel
from specbench.errors import SpecbenchError
from specbench.models import vocabulary
from specbench.profile import CloudSpec, Decoding, Options, Speculative
from specbench.speculation.request import Request

GREEDY = Options(Decoding(), Speculative())
SAMPLED = Options(Decoding(temperature=1.0), Speculative(verification="rejection"))
RANKED = Options(Decoding(temperature=1.0), Speculative(verification="rank"))
REQUEST = Request(tuple(range(10, 40)), 24, frozenset(), seed=7)
VERIFY = 5  # of the first connection: Hello, Open, Begin and a Verify come before it


class Faulty(Channel):
    """A socket that does something wrong to one message, and counts that it did."""

    def __init__(self, url, faults):
        self._socket, self._faults = SocketChannel(url), faults
        self._sent = self._received = 0
        self._parts = deque()
        self.silence_s = 1.0

    def send(self, message):
        self._sent += 1
        fault = self._faults.pop(("send", self._sent), None)
        for part in fault(self._socket, message) if fault else [message]:
            self._socket.send(part)

    def receive(self, timeout_s=None):
        while not self._parts:
            message = self._socket.receive(timeout_s)
            self._received += 1
            fault = self._faults.pop(("receive", self._received), None)
            self._parts.extend(fault(self._socket, message) if fault else [message])
        return self._parts.popleft()

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
    return [message + bytes(protocol.MAX_FRAME_BYTES)]


def out_of_order(socket, message):
    frame = protocol.decode_up(message)
    return [protocol.encode(protocol.Verify(frame.number + 1, frame.text, frame.tokens, frame.distributions))]


def other_tag(socket, message):
    return [b"\x93\x63" + message[2:]]


UPWARD = [cut_before, cut_during, lost, repeated, truncated, noise, oversized, out_of_order, other_tag]
DOWNWARD = [cut_after, lost, truncated, noise, other_tag]


def connected(url, cloud, faults=None, patience_s=10.0):
    faults = {} if faults is None else faults
    return Connection(
        lambda: Faulty(url, faults),
        vocabulary.fingerprint(cloud.tokenizer),
        lambda facts: None,
        patience_s,
    )


@pytest.fixture(scope="module")
def expected(cloud, edge):
    return {
        id(options): speculated(edge, cloud.verifier(options), options, REQUEST)
        for options in (GREEDY, SAMPLED)
    }


@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize(
    ("way", "fault"),
    [*(("send", fault) for fault in UPWARD), *(("receive", fault) for fault in DOWNWARD)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_the_text_goes_on_as_if_nothing_had_happened(start, cloud, edge, expected, options, way, fault):
    running = start()
    faults = {(way, VERIFY): fault}
    connection = connected(running.url, cloud, faults)
    text = speculated(edge, RemoteTarget(connection, options, True), options, REQUEST)
    assert not faults, "the fault did not come about"
    assert connection.interruptions == 1
    assert text == expected[id(options)]
    wait_until(lambda: running.server.sessions == 1)
    connection.close()
    wait_until(lambda: running.server.sessions == 0)
    wait_until(lambda: running.host.held == 0)


def test_a_damaged_reply_that_a_look_has_read_is_a_loss_at_once(start, cloud, logged):
    faults = {("receive", VERIFY - 1): noise}
    connection = connected(start().url, cloud, faults)
    target = RemoteTarget(connection, GREEDY, True)
    target.begin(REQUEST)
    pending = target.submit()
    wait_until(lambda: pending.is_done)
    assert not faults, "the fault did not come about"
    assert pending.result().tokens
    (line,) = (line for line in logged.messages if "the cloud is lost" in line)
    assert "these bytes are no frame" in line, "the silence was waited out"
    connection.close()


@pytest.mark.parametrize("fault", [cut_after, lost, repeated], ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("stream", ["decode", "generate", "colocated"])
def test_a_stream_of_which_a_part_is_cut_lost_or_repeated_goes_on_where_it_was(
    start, cloud, edge, monkeypatch, stream, fault
):
    monkeypatch.setattr(cloud, "draft", edge)
    faults = {("receive", VERIFY + 3): fault}
    connection = connected(start().url, cloud, faults)
    if stream == "generate":
        commits = list(RemoteTarget(connection, GREEDY, False).generate(REQUEST))
        wanted = list(cloud.generate(REQUEST, GREEDY.decoding))
    else:
        if stream == "decode":
            alone, target = cloud.target(GREEDY), RemoteTarget(connection, GREEDY, False)
        else:
            alone = cloud.colocated(edge, RANKED)
            target = RemoteTarget(connection, RANKED, True, edge.fingerprint)
        wanted, commits = ([one.begin(REQUEST), *one.decode()] for one in (alone, target))
    assert not faults
    assert connection.interruptions == 1
    assert [commit.tokens for commit in commits] == [commit.tokens for commit in wanted]
    connection.close()


def test_a_cloud_that_leaves_out_a_part_of_a_stream_every_time_is_given_up(start, cloud):
    running = start()
    connection = connected(running.url, cloud)
    connection._connect = lambda: Faulty(running.url, {("receive", VERIFY): lost})
    with pytest.raises(CloudLostError, match="over the same step"):
        list(RemoteTarget(connection, GREEDY, False).generate(REQUEST))


def test_what_the_cloud_says_alone_is_asked_for_only_behind_a_beginning(start, cloud):
    running, kinds, faults = start(), [], {}
    connection = connected(running.url, cloud, faults)
    target, other = RemoteTarget(connection, GREEDY, False), RemoteTarget(connection, GREEDY, True)
    target.begin(REQUEST)
    connection.channel.close()
    other.begin(REQUEST)  # over a new connection, which does not know the first text
    channel, send = connection.channel, connection.channel.send
    channel.send = lambda message: (kinds.append(type(protocol.decode_up(message))), send(message))[1]
    faults["receive", channel._received + 1] = lost  # the answer to the Open
    commits = [target.begin(REQUEST), *target.decode()]
    assert not faults
    assert kinds == [protocol.Open, protocol.Open, protocol.Begin, protocol.Decode]
    assert len(commits) == REQUEST.max_new_tokens
    connection.close()


def test_a_server_that_is_restarted_is_found_again(start, cloud, edge, expected):
    running = start()
    connection = connected(running.url, cloud)
    servers = [running]

    def restart(tokens):
        if tokens > 4 and len(servers) == 1:
            running.stop()
            servers.append(start(port=running.port))

    text = speculated(edge, RemoteTarget(connection, GREEDY, True), GREEDY, REQUEST, restart)
    assert len(servers) == 2
    assert connection.interruptions == 1
    assert text == expected[id(GREEDY)]
    connection.close()


def test_a_cloud_that_stays_away_is_given_up_and_then_asked_again_at_once(start, cloud):
    running = start()
    connection = connected(running.url, cloud, patience_s=0.3)
    target = RemoteTarget(connection, GREEDY, True)
    first = target.begin(REQUEST).tokens
    running.stop()
    for _ in range(2):
        with pytest.raises(CloudLostError, match="could not reconnect"):
            target.verify()
    start(port=running.port)
    assert target.begin(REQUEST).tokens == first
    connection.close()


def test_after_a_cloud_that_stayed_away_is_back_the_next_loss_is_waited_out_again(start, cloud):
    running = start()
    connection = connected(running.url, cloud, patience_s=0.5)
    target = RemoteTarget(connection, GREEDY, True)
    target.begin(REQUEST)
    running.stop()
    with pytest.raises(CloudLostError):
        target.verify()
    running = start(port=running.port)
    first = target.begin(REQUEST).tokens
    failures = [ChannelLostError("not yet")]
    connect = connection._connect

    def late():
        if failures:
            raise failures.pop()
        return connect()

    connection._connect = late
    connection.channel.close()
    assert target.begin(REQUEST).tokens == first
    assert not failures
    connection.close()


def test_a_loss_in_one_text_disturbs_each_other_text_once(start, cloud):
    running = start()
    connection = connected(running.url, cloud)
    target, other = (RemoteTarget(connection, GREEDY, True) for _ in "ab")
    for one in (target, other):
        one.begin(REQUEST)
    connection.channel.close()
    target.verify()
    assert connection.interruptions == 1
    other.begin(REQUEST)
    assert connection.interruptions == 2
    for one in (target, other):
        one.begin(REQUEST)
    assert connection.interruptions == 2
    connection.close()


def test_an_edge_that_comes_while_the_cloud_is_at_work_is_patient(start, cloud):
    running = start(working=0.05)
    seen = []

    def note(socket, message):
        seen.append(protocol.decode_down(message))
        return [message]

    running.server._worker.submit(time.sleep, 0.5)
    connection = connected(running.url, cloud, {("receive", 1): note})
    assert connection.facts.dtype == "float32"
    assert isinstance(seen[0], protocol.Working)
    connection.close()


CHANGES = {"files": {"config.json": "x"}, "layers": 1, "engine": "compiled", "threads": 99, "versions": {}}


@pytest.mark.parametrize("name", CHANGES)
def test_a_cloud_that_comes_back_as_another_is_refused(start, cloud, name):
    running = start()
    connection = connected(running.url, cloud)
    target = RemoteTarget(connection, GREEDY, True)
    target.begin(REQUEST)
    running.host.facts = msgspec.structs.replace(running.host.facts, **{name: CHANGES[name]})
    connection.channel.close()
    with pytest.raises(SpecbenchError, match=f"its {name} changed"):
        target.verify()
    connection.close()


@pytest.mark.parametrize(("way", "fault"), [("send", noise), ("send", truncated), ("receive", noise)])
def test_a_greeting_that_is_damaged_when_the_edge_comes_again_is_said_again(
    start, cloud, edge, expected, way, fault
):
    faults = {}
    connection = connected(start().url, cloud, faults)
    target = RemoteTarget(connection, GREEDY, True)

    def lose(committed):
        if not faults and connection.interruptions == 0:
            connection.channel.close()
            faults[way, 1] = fault

    assert speculated(edge, target, GREEDY, REQUEST, lose) == expected[id(GREEDY)]
    assert not faults, "the fault did not come about"


def test_a_cloud_that_comes_back_with_another_bandwidth_is_the_same(start, cloud):
    running = start()
    connection = connected(running.url, cloud)
    target = RemoteTarget(connection, GREEDY, True)
    target.begin(REQUEST)
    facts = running.host.facts
    running.host.facts = msgspec.structs.replace(facts, bytes_per_second=facts.bytes_per_second / 2)
    connection.channel.close()
    assert target.verify().tokens
    connection.close()


def test_a_cloud_that_comes_back_with_a_few_pages_of_memory_less_is_the_same(start, cloud):
    running = start()
    connection = connected(running.url, cloud)
    target = RemoteTarget(connection, GREEDY, True)
    target.begin(REQUEST)
    facts = running.host.facts
    machine = {**facts.machine, "memory_bytes": facts.machine["memory_bytes"] - 4096}
    running.host.facts = msgspec.structs.replace(facts, machine=machine)
    connection.channel.close()
    assert target.verify().tokens
    running.host.facts = msgspec.structs.replace(facts, machine={**machine, "cores": 99})
    connection.channel.close()
    with pytest.raises(SpecbenchError, match="its machine changed"):
        target.verify()


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bandwidth_that_cannot_be_is_no_frame(start, speed):
    facts = msgspec.structs.replace(start().host.facts, bytes_per_second=speed)
    with pytest.raises(protocol.ProtocolError):
        protocol.decode_down(protocol.encode(protocol.Welcome(1, protocol.VERSION, facts)))


class Doomed(Faulty):
    """Is cut at every verification while `left` says so."""

    def __init__(self, url, left):
        super().__init__(url, {})
        self._left = left

    def send(self, message):
        if isinstance(protocol.decode_up(message), protocol.Verify) and self._left:
            self._left.pop()
            self._socket.close()
        super().send(message)


def test_a_cloud_that_is_lost_at_every_attempt_is_given_up(start, cloud):
    running, left = start(), [True] * 99
    connection = connected(running.url, cloud)
    connection._connect = lambda: Doomed(running.url, left)
    target = RemoteTarget(connection, GREEDY, True)
    target.begin(REQUEST)
    with pytest.raises(CloudLostError, match="over the same step"):
        target.verify()
    assert connection.interruptions > 1


def test_who_is_to_wait_waits_also_when_the_cloud_is_lost_at_every_attempt(start, cloud, monkeypatch):
    monkeypatch.setattr(wire, "LONGEST_PAUSE_S", 0.01)
    running, left = start(), [True] * (wire.MOST_LOSSES + 3)
    connection = connected(running.url, cloud, patience_s=None)
    connection._connect = lambda: Doomed(running.url, left)
    target = RemoteTarget(connection, GREEDY, True)
    target.begin(REQUEST)
    assert target.verify().tokens
    assert not left
    connection.close()


def test_a_host_that_was_given_up_is_tried_once_and_briefly_for_each_text(start, models, monkeypatch):
    monkeypatch.setattr(wire, "PATIENCE_S", 0.3)
    running = start()
    spec = CloudSpec(model=str(models / "target"), device="cpu", placement=running.url)
    cloud = CloudModel(spec)
    target = cloud.verifier(GREEDY)
    target.begin(REQUEST)
    running.stop()
    with pytest.raises(CloudLostError, match="could not reconnect"):
        target.verify()
    before = cloud.interruptions
    with socket.create_server(("127.0.0.1", running.port)) as silent:  # takes calls, and says nothing
        started = time.monotonic()
        with pytest.raises(CloudLostError, match="could not reconnect"):
            target.begin(REQUEST)
        assert time.monotonic() - started < 6
        silent.settimeout(0.2)
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()
    assert cloud.interruptions == before + 1
    start(port=running.port)
    assert target.begin(REQUEST).tokens
    cloud.close()
