"""The emulated link: real packets between two namespaces; what is left after a crash; who is refused."""

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stores import stored

from specbench.cloud.link import emulated, probe
from specbench.cloud.link.emulator import Direction
from specbench.errors import SpecbenchError
from specbench.profile import LinkSpec

SPEC = LinkSpec(rtt_ms=30, uplink_mbps=4, downlink_mbps=8)


def missing():
    """Why no link can be made here, if so."""
    if os.geteuid() != 0:
        return "needs root"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    try:
        if emulated.current() or emulated._namespaces():
            return "a link is up already"
        emulated.up(SPEC)
    except SpecbenchError as error:
        return error.message
    emulated.down()
    return None


@pytest.fixture(scope="module")
def namespaces(tmp_path_factory):
    """Room for the one link that a machine can have; another worker of pytest waits."""
    with (tmp_path_factory.getbasetemp().parent / "link.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if reason := missing():
            pytest.skip(reason)
        yield


@pytest.fixture
def link(namespaces):
    yield emulated.up(SPEC)
    emulated.down()


def nothing_is_left():
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    devices = os.listdir("/sys/class/net")
    return (
        emulated.EDGE not in listed
        and emulated.CLOUD not in listed
        and not set(devices) & set(emulated.DEVICES.values())
        and not emulated.STATE.exists()
    )


def is_gone(pid):
    for _ in range(200):
        if not emulated._is_ours(pid):
            return True
        time.sleep(0.02)
    return False


def test_real_packets_take_the_round_trip_and_tcp_never_more_than_the_rate(link):
    found = probe.measure(1.0)
    assert found.rtt_ms >= SPEC.rtt_ms
    assert 0 < found.uplink_mbps <= SPEC.uplink_mbps
    assert 0 < found.downlink_mbps <= SPEC.downlink_mbps
    assert found.downlink_mbps > found.uplink_mbps, "each way has its own rate"


def test_down_leaves_nothing_behind_and_may_be_said_twice(link):
    assert emulated.down()
    assert nothing_is_left()
    assert link.pid is None or is_gone(link.pid)
    assert not emulated.down()


def test_the_forwarding_process_ends_though_somebody_still_sits_in_the_namespaces(link):
    if link.pid is None:
        pytest.skip("netem needs no process")
    sitting = [
        subprocess.Popen(["ip", "netns", "exec", name, "sleep", "60"])
        for name in (emulated.EDGE, emulated.CLOUD)
    ]
    try:
        for process in sitting:
            while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
                time.sleep(0.01)
        emulated.down()
        assert is_gone(link.pid)
    finally:
        for process in sitting:
            process.kill()
            process.wait()


def test_a_second_link_is_refused_and_the_first_stays(link):
    with pytest.raises(SpecbenchError, match="an emulated link exists already") as refused:
        emulated.up(SPEC)
    assert refused.value.hint == "specbench link down"
    assert emulated.demand(SPEC).pid == link.pid


def test_a_link_whose_process_was_killed_is_noticed_and_cleaned_up(link):
    if link.pid is None:
        pytest.skip("netem needs no process")
    os.kill(link.pid, signal.SIGKILL)
    os.waitpid(link.pid, 0)
    with pytest.raises(SpecbenchError, match="that forwards the emulated link's packets has ended"):
        emulated.demand()
    emulated.down()
    assert nothing_is_left()


@pytest.mark.parametrize("state", [None, "{", '{"how": "tun"}', '{"how": "tun", "pid": 1, "link": {}}'])
def test_a_lost_or_damaged_state_does_not_keep_down_from_cleaning(link, state):
    emulated.STATE.unlink() if state is None else emulated.STATE.write_text(state)
    emulated.down()
    assert nothing_is_left()
    assert link.pid is None or is_gone(link.pid), "it ends when its devices go"


def test_an_up_that_fails_half_way_leaves_nothing_behind(namespaces, monkeypatch):
    monkeypatch.setitem(emulated.ADDRESSES, emulated.CLOUD, "not an address")
    with pytest.raises(SpecbenchError, match=r"'ip .*' failed"):
        emulated.up(SPEC)
    assert nothing_is_left()


def test_a_run_demands_the_link_of_its_profile(link):
    assert emulated.demand(SPEC.model_copy(update={"kind": "emulated"})).how == link.how
    with pytest.raises(SpecbenchError, match="does not match the profile"):
        emulated.demand(LinkSpec(kind="emulated", rtt_ms=31))


def test_up_check_and_down_on_the_command_line(namespaces, specbench):
    settings = [f"--set=link.{key}={value}" for key, value in (("rtt_ms", 24), ("uplink_mbps", 5))]
    refused = specbench("link", "up", *settings)
    assert (refused.code, "link.kind is modelled" in refused.err) == (2, True)
    assert nothing_is_left()
    offered = shlex.split(refused.err.partition("hint: ")[2])
    settings += [word.strip(",") for word in offered if word == "--set" or "=" in word]
    assert specbench("link", "check").err.startswith("error: there is no emulated link")
    try:
        assert specbench("link", "up", *settings).code == 0
        shown = specbench("link", "check", "--seconds", "0.5", "--json").json
    finally:
        done = specbench("link", "down")
    assert shown["asked"]["rtt_ms"] == 24
    assert shown["measured"]["rtt_ms"] >= 24
    assert 0 < shown["measured"]["uplink_mbps"] <= 5
    assert done.out == "Link removed.\n"
    assert nothing_is_left()


@pytest.mark.parametrize("command", ["up", "down", "check"])
def test_whoever_is_not_root_is_refused_with_a_way_out(command):
    # In a user namespace without a map, root is nobody.
    nobody = [] if os.geteuid() else ["unshare", "--user"]
    if nobody and subprocess.run([*nobody, "true"], check=False).returncode:
        pytest.skip("this machine makes no user namespaces")
    program = [sys.executable, "-c", "from specbench.cli import main; main()", "link", command]
    done = subprocess.run([*nobody, *program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr.startswith("error: an emulated link needs root")
    assert "hint: run it with sudo; a run with link.kind=modelled needs no root" in done.stderr


def packets(direction, count, at_ms=0.0, size=1500):
    return [direction.offer(bytes(size), at_ms) for _ in range(count)]


def test_a_full_queue_drops_the_packets_that_come_last():
    taken = packets(Direction(LinkSpec(rtt_ms=10), 1.0, ""), 100)
    held = 64_000 // 1500
    assert taken == [True] * held + [False] * (100 - held)


def test_packets_leave_at_the_rate_behind_the_delay_and_in_order():
    direction = Direction(LinkSpec(rtt_ms=10, jitter_ms=5), 12.0, "")
    packets(direction, 10)
    assert len(direction.due(10 * 1.0 + 5 + 5)) == 10
    direction = Direction(LinkSpec(rtt_ms=10), 12.0, "")
    packets(direction, 10)
    assert [len(direction.due(at + 5.5)) for at in range(1, 11)] == [1] * 10


def test_so_many_packets_are_lost_as_the_profile_says():
    lost = packets(Direction(LinkSpec(loss=0.1), None, "seed"), 10_000).count(False)
    assert 850 <= lost <= 1150


def test_a_state_is_read_back_as_the_link_that_was_asked_for(link):
    assert json.loads(emulated.STATE.read_text())["link"]["uplink_mbps"] == 4
    assert emulated.current().spec == SPEC


def test_a_run_over_the_link_sends_its_packets_through_it(namespaces, specbench, profile, tmp_path):
    link = {"kind": "emulated", "rtt_ms": 12}
    path = profile(link=link, cloud={"placement": "process"}, workload={"limit": 1})
    refused = specbench("run", "speculative", "--profile", path)
    assert (refused.code, "there is no emulated link" in refused.err) == (7, True)
    try:
        assert specbench("link", "up", "--profile", path).code == 0
        done = specbench("run", "speculative", "--profile", path)
        other = specbench("run", "speculative", "--profile", path, "--set", "link.rtt_ms=13")
    finally:
        emulated.down()
    assert done.code == 0, done.err
    assert "edge-cloud over a link that is emulated, round trip 12 ms" in done.out
    generations = stored(tmp_path).generations
    rounds = [part for record in generations for part in record.rounds if part.rtt_ms]
    assert rounds
    assert all(part.rtt_ms >= 12 for part in rounds)
    assert all(part.uplink_ms is part.downlink_ms is None for part in rounds), "only the sum is measured"
    assert (other.code, "does not match the profile" in other.err) == (7, True)
