"""What goes wrong between edge and cloud, one by one; every test proves that its fault came about."""

import gc
import random
import shutil
import socket
import ssl
import subprocess
import threading
import time
import weakref
from dataclasses import replace

import msgspec
import pytest
from conftest import Watched, wait_until
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.uri import parse_uri

from specbench.api import CloudLostError
from specbench.config import Decoding, Options, Speculative
from specbench.decoding.request import Commit, Request
from specbench.errors import SpecbenchError
from specbench.models import vocabulary
from specbench.wire import protocol
from specbench.wire.channel import Channel, ChannelLostError
from specbench.wire.client import RemoteTarget
from specbench.wire.connection import Connection
from specbench.wire.service import Service
from specbench.wire.socket import SocketChannel

GREEDY = Options(Decoding(), Speculative())
SAMPLED = Options(Decoding(temperature=1.0), Speculative(verification="rejection"))
REQUEST = Request(tuple(range(10, 40)), 24, frozenset(), seed=7)
VERIFY = 5  # of the first connection: Hello, Open, Begin and a Verify come before it


class Faulty(Channel):
    """A socket that does something wrong to one message, and counts that it did."""

    def __init__(self, url, faults):
        self._socket, self._faults = SocketChannel(url), faults
        self._sent = self._received = 0
        self.silence_s = 1.0

    def send(self, message):
        self._sent += 1
        fault = self._faults.pop(("send", self._sent), None)
        for part in fault(self._socket, message) if fault else [message]:
            self._socket.send(part)

    def receive(self, timeout_s=None):
        while True:
            message = self._socket.receive(timeout_s)
            self._received += 1
            fault = self._faults.pop(("receive", self._received), None)
            parts = list(fault(self._socket, message)) if fault else [message]
            if parts:
                return parts[0]

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
        lambda line: None,
        patience_s,
    )


def speculated(edge, target, options, at_round=lambda index: None):
    drafter = edge.drafter(options)
    drafter.begin(REQUEST)
    commit = target.begin(REQUEST)
    drafter.commit(commit.tokens, commit.accepted)
    tokens = [*commit.tokens]
    while commit.finish_reason is None:
        at_round(len(tokens))
        commit = target.verify(drafter.propose(min(4, target.remaining - 1)))
        drafter.commit(commit.tokens, commit.accepted)
        target.check()
        tokens += commit.tokens
    return tokens


@pytest.fixture(scope="module")
def expected(cloud, edge):
    return {id(options): speculated(edge, cloud.verifier(options), options) for options in (GREEDY, SAMPLED)}


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
    text = speculated(edge, RemoteTarget(connection, options, True), options)
    assert not faults, "the fault did not come about"
    assert connection.interruptions == 1
    assert text == expected[id(options)]
    wait_until(lambda: running.server.sessions == 1)
    connection.close()
    wait_until(lambda: running.server.sessions == 0)
    wait_until(lambda: running.host.held == 0)


@pytest.mark.parametrize("stream", ["decode", "generate"])
def test_a_stream_that_is_cut_goes_on_where_it_was(start, cloud, stream):
    running = start()
    faults = {("receive", VERIFY + 3): cut_after}
    connection = connected(running.url, cloud, faults)
    target = RemoteTarget(connection, GREEDY, False)
    if stream == "generate":
        commits = list(target.generate(REQUEST))
        wanted = list(cloud.generate(REQUEST, GREEDY.decoding))
    else:
        commits = [target.begin(REQUEST), *target.decode()]
        alone = cloud.target(GREEDY)
        wanted = [alone.begin(REQUEST), *alone.decode()]
    assert not faults
    assert connection.interruptions == 1
    assert [commit.tokens for commit in commits] == [commit.tokens for commit in wanted]
    connection.close()


def test_a_server_that_is_restarted_is_found_again(start, cloud, edge, expected):
    running = start()
    connection = connected(running.url, cloud)
    servers = [running]

    def restart(tokens):
        if tokens > 4 and len(servers) == 1:
            running.stop()
            servers.append(start(port=running.port))

    text = speculated(edge, RemoteTarget(connection, GREEDY, True), GREEDY, restart)
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
        with pytest.raises(CloudLostError, match="did not come back"):
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

    assert speculated(edge, target, GREEDY, lose) == expected[id(GREEDY)]
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


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bandwidth_that_cannot_be_is_no_frame(start, speed):
    facts = msgspec.structs.replace(start().host.facts, bytes_per_second=speed)
    with pytest.raises(protocol.ProtocolError):
        protocol.decode_down(protocol.encode(protocol.Welcome(1, protocol.VERSION, facts)))


def test_a_cloud_that_is_lost_at_every_attempt_is_given_up(start, cloud):
    running = start()

    class Doomed(Faulty):
        def send(self, message):
            if isinstance(protocol.decode_up(message), protocol.Verify):
                self._socket.close()
            super().send(message)

    connection = connected(running.url, cloud)
    connection._connect = lambda: Doomed(running.url, {})
    target = RemoteTarget(connection, GREEDY, True)
    target.begin(REQUEST)
    with pytest.raises(CloudLostError, match="over the same step"):
        target.verify()
    assert connection.interruptions > 1


def raw(url):
    return SocketChannel(url)


def hello(channel, cloud, version=protocol.VERSION, tokenizer=None):
    tokenizer = tokenizer or vocabulary.fingerprint(cloud.tokenizer)
    channel.send(protocol.encode(protocol.Hello(1, version, tokenizer)))
    return protocol.decode_down(channel.receive(10))


def opened(channel, cloud, options=GREEDY):
    assert isinstance(hello(channel, cloud), protocol.Welcome)
    parts = options.decoding.model_dump_json(), options.speculative.model_dump_json()
    channel.send(protocol.encode(protocol.Open(2, 1, *parts, True)))
    assert isinstance(protocol.decode_down(channel.receive(10)), protocol.Done)
    channel.send(protocol.encode(protocol.Begin(3, 1, REQUEST.prompt_ids, 24, (1,), 7)))
    assert isinstance(protocol.decode_down(channel.receive(10)), protocol.Committed)


def test_an_unknown_version_and_another_tokenizer_are_refused_with_the_reason(start, cloud):
    running = start()
    for wrong, reason in (({"version": 99}, "version 99"), ({"tokenizer": "x" * 64}, "another tokenizer")):
        refused = hello(raw(running.url), cloud, **wrong)
        assert isinstance(refused, protocol.Refused)
        assert reason in refused.reason
    wait_until(lambda: running.server.sessions == 0)


SENSELESS = [
    (protocol.Verify(4, 1, (5, 95, 96), ()), "token id 96 is outside the vocabulary of 96"),
    (protocol.Verify(4, 1, (5,) * 65, ()), "a draft of 65 tokens"),
    (protocol.Verify(4, 1, (5,), (b"123456",)), "1 draft distributions came, and 0 are needed"),
    (protocol.Verify(4, 9, (5,), ()), "text 9 was not opened"),
    (protocol.Trust(4, 1, (5, 200)), "token id 200"),
    (protocol.Begin(4, 1, (), 24, (), 7), "the prompt is empty"),
    (protocol.Begin(4, 1, (5, 6), 5000, (), 7), "the model was made for 2048"),
    (protocol.Begin(4, 1, (5, 96), 5, (), 7), "token id 96"),
    (protocol.Resume(4, 1, (5, 6), 5, (), 7, (), 0, 0), "has begun, and has not ended"),
    (protocol.Open(4, 2, "{}", '{"draft_length": 999}', True), "draft_length"),
    (protocol.Open(4, 2, "no json", "{}", True), "JSON"),
    (protocol.Prove(4, 1, (5, 6), 5, (), 7, (8,), ((None, (9, 9)),), (1, 2)), "do not lead to that position"),
]


@pytest.mark.parametrize(("frame", "reason"), SENSELESS, ids=lambda value: str(value)[:40])
def test_a_frame_that_asks_for_what_cannot_be_is_refused_and_the_edge_may_go_on(start, cloud, frame, reason):
    running = start()
    channel = raw(running.url)
    opened(channel, cloud)
    channel.send(protocol.encode(frame))
    refused = protocol.decode_down(channel.receive(10))
    assert isinstance(refused, protocol.Refused)
    assert reason in refused.reason
    channel.send(protocol.encode(protocol.Begin(5, 1, REQUEST.prompt_ids, 24, (1,), 7)))
    assert isinstance(protocol.decode_down(channel.receive(10)), protocol.Committed)
    channel.close()


BROKEN = [b"", b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff", b"\x00" * 50, b"\x93\x06\x07\x01"]


@pytest.mark.parametrize("message", BROKEN, ids=["empty", "nested", "endless", "zeros", "number"])
def test_bytes_that_are_no_frame_end_that_connection_and_no_other(start, cloud, message):
    running = start()
    good, bad = raw(running.url), raw(running.url)
    opened(good, cloud)
    opened(bad, cloud)
    bad.send(message)
    refused = protocol.decode_down(bad.receive(10))
    assert refused.is_over
    with pytest.raises(ChannelLostError):
        bad.receive(10)
    good.send(protocol.encode(protocol.Verify(4, 1, (5, 6), ())))
    assert isinstance(protocol.decode_down(good.receive(10)), protocol.Committed)
    good.close()


def test_an_edge_too_many_is_refused_and_has_room_when_another_leaves(start, cloud):
    running = start(max_sessions=1)
    first = raw(running.url)
    opened(first, cloud)
    with pytest.raises(ChannelLostError, match="serves 1 edges already"):
        hello(raw(running.url), cloud)
    first.close()
    wait_until(lambda: running.server.sessions == 0)
    opened(raw(running.url), cloud)


def test_a_silent_edge_is_sent_away_and_its_cache_freed(start, cloud):
    running = start(idle=0.3)
    channel = raw(running.url)
    opened(channel, cloud)
    assert running.host.held == 1
    wait_until(lambda: running.server.sessions == 0)
    wait_until(lambda: running.host.held == 0)
    with pytest.raises(ChannelLostError, match="no frame came"):
        channel.receive(10)


def test_an_edge_that_never_says_hello_is_sent_away(start):
    running = start(hello=0.3)
    with pytest.raises(ChannelLostError, match="no frame came"):
        raw(running.url).receive(10)
    wait_until(lambda: any("gone" in line for line in running.said))


def deaf(running, cloud, *frames):
    """An edge that is greeted, sends its frames and never reads again; returns its socket."""
    edge = ClientProtocol(parse_uri(running.url))
    sock = socket.create_connection(("127.0.0.1", running.port))
    edge.send_request(edge.connect())
    sock.sendall(b"".join(edge.data_to_send()))
    edge.receive_data(sock.recv(65536))
    for frame in (protocol.Hello(1, protocol.VERSION, vocabulary.fingerprint(cloud.tokenizer)), *frames):
        edge.send_binary(protocol.encode(frame))
    sock.sendall(b"".join(edge.data_to_send()))
    return sock


def test_an_edge_that_never_reads_and_answers_no_ping_is_freed_within_a_bounded_time(start, cloud):
    running = start(ping=0.2, pong=0.3)
    parts = GREEDY.decoding.model_dump_json(), GREEDY.speculative.model_dump_json()
    begun = protocol.Begin(3, 1, REQUEST.prompt_ids, 2000, (), 7)
    sock = deaf(running, cloud, protocol.Open(2, 1, *parts, True), begun, protocol.Decode(4, 1))
    wait_until(lambda: running.host.held == 1)
    wait_until(lambda: running.server.sessions == 0)
    wait_until(lambda: running.host.held == 0)
    sock.close()


def test_a_token_is_asked_for_before_anything_is_read(start):
    running = start(token="right")
    for token, reason in ((None, "shows no token"), ("wrong", "token is wrong")):
        with pytest.raises(SpecbenchError, match=reason):
            SocketChannel(running.url, token)
    assert running.server.sessions == 0
    SocketChannel(running.url, "right").close()


def test_a_text_that_has_ended_holds_no_cache(start, cloud):
    service = Service(Watched(cloud))
    parts = GREEDY.decoding.model_dump_json(), GREEDY.speculative.model_dump_json()
    hello = protocol.Hello(1, protocol.VERSION, vocabulary.fingerprint(cloud.tokenizer))
    frames = [hello, protocol.Open(2, 1, *parts, True), protocol.Begin(3, 1, REQUEST.prompt_ids, 4, (), 7)]
    for frame in frames:
        list(service.handle(protocol.encode(frame), 0.0))
    session = weakref.ref(service._texts[1].target._session)
    assert session() is not None
    replies = list(service.handle(protocol.encode(protocol.Decode(4, 1)), 0.0))
    assert protocol.decode_down(replies[-1]).finish == protocol.FINISH_REASONS.index("length")
    gc.collect()
    assert session() is None


def test_the_open_texts_of_an_edge_fill_four_contexts_and_no_more(start, cloud):
    running = start()
    channel = raw(running.url)
    opened(channel, cloud)
    parts = GREEDY.decoding.model_dump_json(), GREEDY.speculative.model_dump_json()
    number, answers = 3, []
    for text in range(2, 7):
        for frame in (
            protocol.Open(number + 1, text, *parts, True),
            protocol.Begin(number + 2, text, REQUEST.prompt_ids, 2000, (), 7),
        ):
            channel.send(protocol.encode(frame))
            answers.append(protocol.decode_down(channel.receive(10)))
        number += 2
    assert [isinstance(answer, protocol.Refused) for answer in answers[1::2]] == [False] * 4 + [True]
    assert "may hold 8192 tokens" in answers[-1].reason
    channel.close()


def test_a_web_page_is_no_edge_and_no_header_is_an_error_of_ours(start):
    running = start(token="right")
    for headers in ({"Origin": "http://example.org", "Authorization": "Bearer right"}, {}):
        with pytest.raises(InvalidStatus) as refused:
            connect(running.url, additional_headers=headers, proxy=None)
        assert refused.value.response.status_code == (403 if headers else 401)
    with socket.create_connection(("127.0.0.1", running.port)) as sock:
        edge = ClientProtocol(parse_uri(running.url))
        request = edge.connect().serialize().replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer \xff\r\n\r\n")
        sock.sendall(request)
        assert b"401" in sock.recv(65536).splitlines()[0]


def test_a_stream_whose_edge_vanished_is_closed_in_the_models_thread(start):
    running = start()
    closed = []

    def generate(request, decoding):
        try:
            while True:
                yield Commit((5,), 0, None, 0.0)
        finally:
            closed.append(threading.current_thread().name)

    running.host.generate = generate
    connection = Connection(
        lambda: Faulty(running.url, {}), running.host.facts.tokenizer_sha256, lambda facts: None, print
    )
    stream = RemoteTarget(connection, GREEDY, False).generate(REQUEST)
    next(stream)
    connection.channel._socket._socket.socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: closed)
    assert closed[0].startswith("specbench passes")


def test_text_frames_and_a_flood_of_frames_do_no_harm(start, cloud):
    running = start()
    channel = raw(running.url)
    opened(channel, cloud)
    for number in range(4, 204):
        channel.send(protocol.encode(protocol.Verify(number, 1, (), ())))
    replies = [protocol.decode_down(channel.receive(10)) for _ in range(200)]
    assert sum(isinstance(reply, protocol.Committed) for reply in replies) >= 1
    channel._socket.send("a text")
    assert protocol.decode_down(channel.receive(10)).is_over
    wait_until(lambda: running.server.sessions == 0)


def certificate(folder, days):
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificate")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    cert, key, ask = folder / "cert.pem", folder / "key.pem", folder / "ask.pem"
    for words in (
        ["req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", ask, "-subj", "/CN=cloud"],
        ["x509", "-req", "-in", ask, "-signkey", key, "-days", str(days), "-extfile", folder / "names",
         "-out", cert],
    ):  # fmt: skip
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    return tls, cert


@pytest.mark.parametrize(("days", "refused"), [(2, None), (-1, "expired"), (2, "self")])
def test_a_certificate_counts_while_it_is_valid_and_signed_by_someone_known(
    start, cloud, tmp_path, monkeypatch, days, refused
):
    tls, cert = certificate(tmp_path, days)
    running = start(tls=tls)
    if refused != "self":
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    if refused is None:
        opened(raw(running.url), cloud)
        return
    with pytest.raises(SpecbenchError, match=refused):
        raw(running.url)


def test_two_sampled_texts_of_generate_at_the_same_time_are_what_each_is_alone(cloud):
    decoding = Decoding(temperature=1.0)
    requests = [replace(REQUEST, seed=seed, max_new_tokens=200) for seed in (1, 2)]
    alone = [[commit.tokens for commit in cloud.generate(request, decoding)] for request in requests]
    streams = [cloud.generate(request, decoding) for request in requests]
    together = list(zip(*streams, strict=True))
    assert [[commit.tokens for commit in commits] for commits in zip(*together, strict=True)] == alone
