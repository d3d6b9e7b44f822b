"""What edges do to a server: frames that cannot be, silence, floods; nothing that one sends ends it."""

import gc
import socket
import ssl
import threading
import weakref
from dataclasses import replace

import pytest
from listening import Watched, certificate
from waiting import wait_until
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from specbench.cloud.server.service import Service
from specbench.cloud.transport import answers, protocol
from specbench.cloud.transport import connection as wire
from specbench.cloud.transport.channel import ChannelLostError
from specbench.cloud.transport.connection import LONGEST_PAUSE_S, PATIENCE_S, Connection
from specbench.cloud.transport.remote_target import RemoteTarget
from specbench.cloud.transport.socket import PING_S, PONG_S, SocketChannel
from specbench.errors import SpecbenchError
from specbench.models import vocabulary
from specbench.profile import Decoding, Options, Speculative
from specbench.results.records import Round
from specbench.speculation.request import Request

GREEDY = Options(Decoding(), Speculative())
SAMPLED = Options(Decoding(temperature=1.0), Speculative(verification="rejection"))
REQUEST = Request(tuple(range(10, 40)), 24, frozenset(), seed=7)


def raw(url):
    return SocketChannel(url)


def hello(channel, cloud, version=protocol.VERSION, tokenizer=None):
    tokenizer = tokenizer or vocabulary.fingerprint(cloud.tokenizer)
    channel.send(protocol.encode(protocol.Hello(1, version, tokenizer)))
    return protocol.decode_down(channel.receive(10))


def opened(channel, cloud, options=GREEDY):
    assert isinstance(hello(channel, cloud), answers.Welcome)
    parts = options.decoding.model_dump(), options.speculative.model_dump()
    channel.send(protocol.encode(protocol.Open(2, 1, *parts, True)))
    assert isinstance(protocol.decode_down(channel.receive(10)), answers.Done)
    channel.send(protocol.encode(protocol.Begin(3, 1, REQUEST.prompt_ids, 24, (1,), 7, None, None)))
    assert isinstance(protocol.decode_down(channel.receive(10)), answers.Committed)


def test_an_unknown_version_and_another_tokenizer_are_refused_with_the_reason(start, cloud):
    running = start()
    for wrong, reason in (({"version": 99}, "version 99"), ({"tokenizer": "x" * 64}, "different tokenizers")):
        refused = hello(raw(running.url), cloud, **wrong)
        assert isinstance(refused, answers.Refused)
        assert reason in refused.reason
    wait_until(lambda: running.server.sessions == 0)


SENSELESS = [
    (protocol.Verify(4, 1, (5, 95, 96), ()), "token id 96 is outside the vocabulary of 96"),
    (protocol.Verify(4, 1, (5,) * 65, ()), "a draft of 65 tokens"),
    (protocol.Verify(4, 1, (5,), (b"123456",)), "1 draft distributions came, and 0 are needed"),
    (protocol.Verify(4, 9, (5,), ()), "text 9 was not opened"),
    (protocol.Trust(4, 1, (5, 200)), "token id 200"),
    (protocol.Begin(4, 1, (), 24, (), 7, None, None), "the prompt is empty"),
    (protocol.Begin(4, 1, (5, 6), 5000, (), 7, None, None), "the model was made for 2048"),
    (protocol.Begin(4, 1, (5, 96), 5, (), 7, None, None), "token id 96"),
    (protocol.Begin(4, 1, (5, 6), 5, (), 7, None, (False, (("image", b"GIF"),))), "(llama) reads no image"),
    (protocol.Resume(4, 1, (5, 6), 5, (), 7, None, None, (), 0, 0), "has begun, and has not ended"),
    (protocol.Open(4, 2, {}, {"draft_length": 999}, True), "draft_length"),
    (protocol.Open(4, 2, {"heat": 1}, {}, True), "heat"),
    (
        protocol.Prove(4, 1, (5, 6), 5, (), 7, None, None, (8,), ((None, (9, 9), False),), (1, 2)),
        "do not lead to that position",
    ),
    (protocol.Recompute(4, 1, (5, 6), 2, (), 7, None, None, (8, 9, 9)), "no text of that budget"),
    (protocol.Recompute(4, 1, (5, 6), 2, (), 7, None, None, (8, 96)), "token id 96"),
]


@pytest.mark.parametrize(("frame", "reason"), SENSELESS, ids=lambda value: str(value)[:40])
def test_a_frame_that_asks_for_what_cannot_be_is_refused_and_the_edge_may_go_on(start, cloud, frame, reason):
    running = start()
    channel = raw(running.url)
    opened(channel, cloud)
    channel.send(protocol.encode(frame))
    refused = protocol.decode_down(channel.receive(10))
    assert isinstance(refused, answers.Refused)
    assert reason in refused.reason
    channel.send(protocol.encode(protocol.Begin(5, 1, REQUEST.prompt_ids, 24, (1,), 7, None, None)))
    assert isinstance(protocol.decode_down(channel.receive(10)), answers.Committed)
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
    assert isinstance(protocol.decode_down(good.receive(10)), answers.Committed)
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


def test_an_edge_that_never_says_hello_is_sent_away(start, logged):
    running = start(hello=0.3)
    with pytest.raises(ChannelLostError, match="no frame came"):
        raw(running.url).receive(10)
    wait_until(lambda: any("disconnected" in line for line in logged.messages))


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
    parts = GREEDY.decoding.model_dump(), GREEDY.speculative.model_dump()
    begun = protocol.Begin(3, 1, REQUEST.prompt_ids, 2000, (), 7, None, None)
    sock = deaf(running, cloud, protocol.Open(2, 1, *parts, True), begun, protocol.Decode(4, 1))
    wait_until(lambda: running.host.held == 1)
    wait_until(lambda: running.server.sessions == 0)
    wait_until(lambda: running.host.held == 0)
    sock.close()


def test_an_edge_that_misses_no_ping_and_never_reads_is_freed_within_a_bounded_time(start, cloud):
    running, began, closed = start(ping=60.0, send=0.3), [], []

    def generate(request, decoding):
        began.append(running.host.held)
        try:
            while True:
                yield Round((5,) * 100_000, verify_ms=0.0)  # fills what lies between in no time
        finally:
            closed.append(True)

    running.host.generate = generate
    parts = GREEDY.decoding.model_dump(), GREEDY.speculative.model_dump()
    asked = protocol.Generate(3, 1, REQUEST.prompt_ids, 2000, (), 7, None, None)
    sock = deaf(running, cloud, protocol.Open(2, 1, *parts, False), asked)
    wait_until(lambda: began == [1])
    wait_until(lambda: running.server.sessions == 0)
    wait_until(lambda: closed and running.host.held == 0)
    sock.close()


def test_an_edge_finds_room_again_within_its_patience_though_its_first_connection_hangs(
    start, cloud, monkeypatch
):
    monkeypatch.setattr(wire, "LONGEST_PAUSE_S", LONGEST_PAUSE_S / 10)
    running = start(max_sessions=1, ping=PING_S / 10, pong=PONG_S / 10)
    patience_s = PATIENCE_S / 10 + 1  # the server waits a second for a goodbye
    sock = deaf(running, cloud)
    wait_until(lambda: running.server.sessions == 1)
    tokenizer = running.host.facts.tokenizer_sha256
    connection = Connection(lambda: raw(running.url), tokenizer, lambda facts: None, patience_s)
    with pytest.raises(SpecbenchError, match="serves 1 edges already"):
        _ = connection.facts  # of an edge that was never there before
    connection.recover(ChannelLostError("the first connection hangs"))
    assert connection.is_open
    connection.close()
    sock.close()


def test_a_text_that_has_ended_holds_no_cache(start, cloud):
    service = Service(Watched(cloud))
    parts = GREEDY.decoding.model_dump(), GREEDY.speculative.model_dump()
    hello = protocol.Hello(1, protocol.VERSION, vocabulary.fingerprint(cloud.tokenizer))
    frames = [
        hello,
        protocol.Open(2, 1, *parts, True),
        protocol.Begin(3, 1, REQUEST.prompt_ids, 4, (), 7, None, None),
    ]
    for frame in frames:
        list(service.handle(protocol.encode(frame), 0.0))
    session = weakref.ref(service._texts[1].target._session)
    assert session() is not None
    replies = list(service.handle(protocol.encode(protocol.Decode(4, 1)), 0.0))
    assert protocol.decode_down(replies[-1]).finish == answers.FINISH_REASONS.index("length")
    gc.collect()
    assert session() is None


def test_the_open_texts_of_an_edge_fill_four_contexts_and_no_more(start, cloud):
    running = start()
    channel = raw(running.url)
    opened(channel, cloud)
    parts = GREEDY.decoding.model_dump(), GREEDY.speculative.model_dump()
    number, replies = 3, []
    for text in range(2, 7):
        for frame in (
            protocol.Open(number + 1, text, *parts, True),
            protocol.Begin(number + 2, text, REQUEST.prompt_ids, 2000, (), 7, None, None),
        ):
            channel.send(protocol.encode(frame))
            replies.append(protocol.decode_down(channel.receive(10)))
        number += 2
    assert [isinstance(answer, answers.Refused) for answer in replies[1::2]] == [False] * 4 + [True]
    assert "may hold 8192 tokens" in replies[-1].reason
    channel.close()


def test_a_stream_whose_edge_vanished_is_closed_in_the_models_thread(start):
    running = start()
    closed = []

    def generate(request, decoding):
        try:
            while True:
                yield Round((5,), verify_ms=0.0)
        finally:
            closed.append(threading.current_thread().name)

    running.host.generate = generate
    connection = Connection(lambda: raw(running.url), running.host.facts.tokenizer_sha256, lambda facts: None)
    stream = RemoteTarget(connection, GREEDY, False).generate(REQUEST)
    next(stream)
    connection.channel._socket.socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: closed)
    assert closed[0].startswith("specbench passes")


def test_text_frames_and_a_flood_of_frames_do_no_harm(start, cloud):
    running = start()
    channel = raw(running.url)
    opened(channel, cloud)
    for number in range(4, 204):
        channel.send(protocol.encode(protocol.Verify(number, 1, (), ())))
    replies = [protocol.decode_down(channel.receive(10)) for _ in range(200)]
    assert sum(isinstance(reply, answers.Committed) for reply in replies) >= 1
    channel._socket.send("a text")
    assert protocol.decode_down(channel.receive(10)).is_over
    wait_until(lambda: running.server.sessions == 0)


@pytest.mark.parametrize(("days", "refused"), [(2, None), (-1, "expired"), (2, "self")])
def test_a_certificate_counts_while_it_is_valid_and_signed_by_someone_known(
    start, cloud, tmp_path, monkeypatch, days, refused
):
    cert, key = certificate(tmp_path, days)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
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
