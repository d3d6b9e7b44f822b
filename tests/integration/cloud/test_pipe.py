"""Frames through a pipe: to a cloud in a process of its own, with nobody between the two that wait for them."""

import socket
import threading
import time
from contextlib import closing

import pytest
from builders import speculated
from faulty import GREEDY, REQUEST
from waiting import wait_until

from specbench.clock import now_ms
from specbench.cloud import CloudModel
from specbench.cloud.served import Served
from specbench.cloud.server.piped import PipedEdge
from specbench.cloud.transport import answers, protocol
from specbench.cloud.transport.channel import ChannelLostError
from specbench.cloud.transport.pipe import HEADER, Pipe, PipeChannel
from specbench.cloud.transport.socket import SocketChannel
from specbench.profile import CloudSpec, Decoding, LinkSpec, Options, Speculative
from specbench.speculation.request import Request

WINDOWED = Options(Decoding(), Speculative(window=3))


@pytest.fixture
def ends():
    here, there = map(Pipe, socket.socketpair())
    with closing(here), closing(there):
        yield here, there


@pytest.fixture(scope="module")
def apart(models):
    """A cloud in a process of its own, which one edge asks."""
    spec = CloudSpec(model=str(models / "target"), device="cpu", placement="process")
    with closing(CloudModel(spec)) as cloud:
        cloud.load()
        yield cloud


def test_frames_of_any_size_arrive_whole_and_in_order(ends):
    here, there = ends
    sizes = [0, 1, 17, 70_000, 3_000_000, 5]
    sender = threading.Thread(target=lambda: [here.send(bytes([size % 251]) * size) for size in sizes])
    sender.start()
    assert [there.receive(10)[0] for _ in sizes] == [bytes([size % 251]) * size for size in sizes]
    sender.join()
    assert there.is_empty()


def test_half_a_frame_is_none_and_is_not_lost(ends):
    _, there = ends
    whole = HEADER.pack(4, now_ms()) + b"four"
    raw = ends[0]._end
    raw.send(whole[:9])
    with pytest.raises(TimeoutError):
        there.receive(0.01)
    assert there.is_empty()
    raw.send(whole[9:])
    assert there.receive(10)[0] == b"four"


def test_a_frame_that_lay_there_came_when_it_was_sent_and_one_that_was_awaited_comes_now(ends):
    here, there = ends
    before = now_ms()
    here.send(b"early")
    sent = now_ms()
    time.sleep(0.02)
    assert before <= there.receive()[1] <= sent
    threading.Timer(0.02, here.send, [b"late"]).start()
    started = now_ms()
    assert started < there.receive()[1] <= now_ms()


@pytest.mark.parametrize("lose", ["close", "nonsense"])
def test_a_lost_end_is_heard_by_who_waits(ends, lose):
    here, there = ends
    here.send(b"last")
    act = here.close if lose == "close" else lambda: here._end.send(HEADER.pack(2**31, 0.0))
    threading.Timer(0.02, act).start()
    assert there.receive()[0] == b"last"
    with pytest.raises(ChannelLostError, match="the other end of the pipe is closed"):
        there.receive()


def test_an_end_that_reads_nothing_is_given_up(ends):
    here, _ = ends
    with pytest.raises(ChannelLostError, match="it read nothing"):
        here.send(bytes(10_000_000), patience_s=0.02)


def test_a_cloud_at_work_gives_signs_of_life(cloud):
    host, turn, (here, there) = Served(cloud), threading.Lock(), socket.socketpair()
    _ = host.facts
    channel = PipeChannel(here)
    with closing(PipedEdge(host, there.detach(), turn, working_s=0.01)), closing(channel):
        with turn:
            channel.send(protocol.encode(protocol.Hello(1, protocol.VERSION, host.facts.tokenizer_sha256)))
            assert isinstance(protocol.decode_down(channel.receive(10)), answers.Working)
        frames = iter(lambda: protocol.decode_down(channel.receive(10)), None)
        first = next(frame for frame in frames if not isinstance(frame, answers.Working))
        assert isinstance(first, answers.Welcome)


@pytest.mark.parametrize("options", [GREEDY, WINDOWED])
def test_drafts_through_a_pipe_say_what_the_cloud_says_here(apart, cloud, edge, options):
    assert isinstance(apart.connection.channel, PipeChannel)
    expected = speculated(edge, cloud.verifier(GREEDY), GREEDY, REQUEST)
    assert speculated(edge, apart.verifier(options), options, REQUEST) == expected


def test_the_round_trip_of_an_answer_that_lay_there_is_known(apart, edge):
    target, drafter = apart.verifier(GREEDY), edge.drafter(GREEDY)
    first = target.begin(REQUEST)
    drafter.begin(REQUEST)
    drafter.commit(first.tokens, 0)
    pending = target.submit(drafter.propose(2))
    wait_until(lambda: pending.is_done)
    assert pending.result().rtt_ms >= 0


def test_a_stream_that_is_given_up_disturbs_no_later_text(apart, cloud):
    long = Request(REQUEST.prompt_ids, 64, frozenset())
    target, here = apart.target(GREEDY), cloud.target(GREEDY)
    for _ in range(3):
        target.begin(long)
        stream = target.decode()
        next(stream)
        stream.close()
    texts = [[one.begin(long).tokens, *(part.tokens for part in one.decode())] for one in (target, here)]
    assert texts[0] == texts[1]


def test_behind_a_lost_pipe_the_text_goes_on_over_a_socket(models, cloud, edge):
    spec = CloudSpec(model=str(models / "target"), device="cpu", placement="process")
    expected = speculated(edge, cloud.verifier(GREEDY), GREEDY, REQUEST)

    def lose(tokens):
        if tokens > 4 and isinstance(apart.connection.channel, PipeChannel):
            apart.connection.channel.close()

    with closing(CloudModel(spec)) as apart:
        target, process = apart.verifier(GREEDY), apart.process
        assert speculated(edge, target, GREEDY, REQUEST, lose) == expected
        assert isinstance(apart.connection.channel, SocketChannel)
        assert apart.process is process
        assert apart.interruptions == 1


@pytest.mark.parametrize(
    ("link", "fields", "most_edges"),
    [({"kind": "emulated", "rtt_ms": 5}, {}, None), ({}, {"parallel": {"tensor": 2}}, None),
     ({}, {"batch": {"sessions": 2}}, None), ({}, {}, 4)],
)  # fmt: skip
def test_where_others_may_ask_too_or_a_link_lies_between_there_is_no_pipe(link, fields, most_edges):
    kind = {"model": "a", "device": "cpu", "placement": "process", **fields}
    cloud = CloudModel(CloudSpec(**kind), link=LinkSpec(**link))
    cloud.most_edges = most_edges
    assert not cloud._is_piped
    alone = CloudModel(CloudSpec(model="a", device="cpu", placement="process"), link=LinkSpec(rtt_ms=5))
    assert alone._is_piped
