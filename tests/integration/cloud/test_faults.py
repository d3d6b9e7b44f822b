"""What goes wrong between edge and cloud, one by one; every test proves that its fault came about."""

import time

import msgspec
import pytest
from builders import speculated
from faulty import (
    GREEDY,
    REQUEST,
    SAMPLED,
    Faulty,
    connected,
    cut_after,
    cut_before,
    cut_during,
    lost,
    noise,
    other_tag,
    out_of_order,
    oversized,
    repeated,
    truncated,
)
from waiting import wait_until

from specbench.api import CloudLostError
from specbench.cloud.transport import answers, protocol
from specbench.cloud.transport.fields import ProtocolError
from specbench.cloud.transport.remote_target import RemoteTarget
from specbench.profile import Decoding, Options, Speculative

RANKED = Options(Decoding(temperature=1.0), Speculative(verification="rank"))
VERIFY = 5  # of the first connection: Hello, Open, Begin and a Verify come before it


UPWARD = [cut_before, cut_during, lost, repeated, truncated, noise, oversized, out_of_order, other_tag]
DOWNWARD = [cut_after, lost, truncated, noise, other_tag]


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
    (line,) = (line for line in logged.messages if "lost the cloud" in line)
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
    with pytest.raises(CloudLostError, match="in the same step"):
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


def test_an_edge_that_comes_while_the_cloud_is_at_work_is_patient(start, cloud):
    running = start(working=0.05)
    seen = []

    def note(socket, message):
        seen.append(protocol.decode_down(message))
        return [message]

    running.server._worker.submit(time.sleep, 0.5)
    connection = connected(running.url, cloud, {("receive", 1): note})
    assert connection.facts.profile.dtype == "float32"
    assert isinstance(seen[0], answers.Working)
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


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bandwidth_that_cannot_be_is_no_frame(start, speed):
    facts = msgspec.structs.replace(start().host.facts, bytes_per_second=speed)
    with pytest.raises(ProtocolError):
        protocol.decode_down(protocol.encode(answers.Welcome(1, protocol.VERSION, facts)))
