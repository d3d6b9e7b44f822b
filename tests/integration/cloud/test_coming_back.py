"""A cloud that went and came back, as the same or as another, or that stays away."""

import socket
import time

import msgspec
import pytest
from builders import speculated
from faulty import GREEDY, REQUEST, Faulty, connected

from specbench.api import CloudLostError
from specbench.cloud import CloudModel
from specbench.cloud.transport import connection as wire
from specbench.cloud.transport import protocol
from specbench.cloud.transport.channel import ChannelLostError
from specbench.cloud.transport.remote_target import RemoteTarget
from specbench.errors import SpecbenchError
from specbench.profile import CloudSpec


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


CHANGES = {"files": {"config.json": "x"}, "engine": "compiled", "versions": {}}


@pytest.mark.parametrize("name", CHANGES)
def test_a_cloud_that_comes_back_as_another_is_refused(start, cloud, name):
    running = start()
    connection = connected(running.url, cloud)
    target = RemoteTarget(connection, GREEDY, True)
    target.begin(REQUEST)
    running.host.facts = msgspec.structs.replace(running.host.facts, **{name: CHANGES[name]})
    connection.channel.close()
    with pytest.raises(SpecbenchError, match=rf"reports a different model \({name}\)"):
        target.verify()
    connection.close()


@pytest.mark.parametrize(
    ("key", "changed"), [("cloud.layers", {"layers": 1}), ("cloud.threads", {"threads": 99})]
)
def test_a_cloud_that_comes_back_with_another_profile_is_refused_by_the_key(start, cloud, key, changed):
    running = start()
    connection = connected(running.url, cloud)
    target = RemoteTarget(connection, GREEDY, True)
    target.begin(REQUEST)
    facts = running.host.facts
    profile = msgspec.structs.replace(facts.profile, **changed)
    running.host.facts = msgspec.structs.replace(facts, profile=profile, profile_sha256=profile.sha256)
    connection.channel.close()
    with pytest.raises(SpecbenchError, match=rf"reports a different model \({key}\)"):
        target.verify()
    connection.close()


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
    with pytest.raises(SpecbenchError, match=r"reports a different model \(machine\)"):
        target.verify()


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
    with pytest.raises(CloudLostError, match="in the same step"):
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
