"""Energy of a cloud elsewhere: the server reads its own counters, and the edge keeps what they say."""

import pytest
from listening import Watched
from powered import PoweredProcessor, write
from stores import stored
from waiting import wait_until

from specbench.benchmark import energy_watch
from specbench.cloud.metering import CloudMetering
from specbench.cloud.transport.connection import Connection
from specbench.cloud.transport.protocol import AskEnergy
from specbench.cloud.transport.socket import SocketChannel
from specbench.energy import find_counters, finding, machine_id


@pytest.fixture
def edge_root(monkeypatch, tmp_path):
    """Where the kernel's files of the edge's machine lie."""
    root = tmp_path / "edge"
    for name, known in (("find_counters", find_counters), ("machine_id", machine_id)):
        monkeypatch.setattr(energy_watch, name, lambda _, known=known: known(root))
    monkeypatch.setattr(energy_watch, "IDLE_S", 0.2)
    boot(root, "1f")
    return root


@pytest.fixture
def cloud_root(tmp_path):
    return tmp_path / "cloud"


def boot(root, number):
    path = root / finding.BOOT
    write(root, path.parent.relative_to(root), **{path.name: number})


@pytest.fixture
def asked(specbench, profile, cloud, start, cloud_root):
    """The rows of energy of a method that a run asks a server for, whose machine has such files."""

    def ask():
        host = Watched(cloud)
        host.metering = CloudMetering(cloud, cloud_root)
        words = ("--limit", "2", "--set", "workload.max_new_tokens=6", "--json")
        placed = profile(cloud={"placement": start(host).url})
        done = specbench("run", "speculative", "--profile", placed, *words)
        assert done.code == 0, done.err
        return done.json["methods"]["speculative"]["energy"], done.json["notes"]

    return ask


def test_edge_and_cloud_have_joules_of_their_own_where_the_server_tells(asked, edge_root, cloud_root, tmp_path):
    boot(cloud_root, "2e")
    with PoweredProcessor(edge_root, 20.0), PoweredProcessor(cloud_root, 80.0):
        (edge, cloud), _ = asked()
    assert (edge["roles"], edge["counters"]) == (["edge"], ["package-0"])
    assert (cloud["roles"], cloud["counters"]) == (["cloud"], ["cloud package-0"])
    assert edge["idle_watts"] == pytest.approx(20, rel=0.25)
    assert cloud["idle_watts"] == pytest.approx(80, rel=0.25)
    use = stored(tmp_path).generations[0].energy
    assert use.joules["cloud package-0"] / use.seconds_of("cloud package-0") == pytest.approx(80, rel=0.5)


def test_a_server_on_the_edges_own_machine_shares_its_counters(asked, edge_root):
    with PoweredProcessor(edge_root, 20.0):
        ((joint,), _) = asked_here(asked, edge_root)
    assert (joint["roles"], joint["counters"]) == (["edge", "cloud"], ["package-0"])


def asked_here(asked, edge_root):
    boot(edge_root.parent / "cloud", "1f")
    return asked()


def test_a_servers_machine_without_counters_leaves_the_clouds_energy_unknown(asked, edge_root, cloud_root):
    boot(cloud_root, "2e")
    with PoweredProcessor(edge_root, 20.0):
        ((edge,), notes) = asked()
    assert edge["roles"] == ["edge"]
    assert f"energy: {energy_watch.NO_COUNTER_THERE}" in notes


def test_an_edge_that_comes_and_goes_between_two_readings_is_told(start, cloud, cloud_root):
    host = Watched(cloud)
    host.metering = CloudMetering(cloud, cloud_root)
    running = start(host)

    def connected():
        tokenizer = host.facts.tokenizer_sha256
        edge = Connection(lambda: SocketChannel(running.url), tokenizer, lambda facts: None, 10.0)
        assert edge.facts
        return edge

    def edges():
        return mine.ask(AskEnergy).frame.edges

    mine = connected()
    assert (edges(), edges()) == (1, 1)
    connected().close()
    wait_until(lambda: running.server.sessions == 1)
    assert (edges(), edges()) == (2, 1)
    mine.close()
    wait_until(lambda: running.server.sessions == 0)
    mine = connected()
    assert edges() == 3  # had others come before it was here again, nobody would know
    assert edges() == 1
    mine.close()
