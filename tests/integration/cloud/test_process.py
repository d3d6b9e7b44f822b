"""The cloud in a process of its own."""

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest
from waiting import is_running, wait_until

from specbench.cloud import CloudModel
from specbench.cloud.transport import connection as wire
from specbench.errors import CloudLostError, SpecbenchError
from specbench.profile import CloudSpec, Decoding, EngineSpec, Options, Speculative
from specbench.speculation.request import Request

GREEDY = Options(Decoding(), Speculative())
REQUEST = Request(tuple(range(10, 40)), 16, frozenset([1]))


def tokens_of(target):
    commits = [target.begin(REQUEST)]
    return [token for commit in [*commits, *target.decode()] for token in commit.tokens]


@pytest.fixture(scope="module")
def alone(models):
    return tokens_of(CloudModel(CloudSpec(model=str(models / "target"), device="cpu")).target(GREEDY))


def test_a_cloud_in_another_process_says_the_same_and_ends_with_us(models, alone):
    cloud = CloudModel(CloudSpec(model=str(models / "target"), device="cpu", placement="process"))
    assert not cloud.is_loaded
    target = cloud.verifier(GREEDY)
    assert cloud.is_loaded
    assert tokens_of(target) == alone
    assert [token for commit in cloud.generate(REQUEST, GREEDY.decoding) for token in commit.tokens] == alone
    assert cloud.engine_kind == "eager"
    assert cloud.audit().declared == "float32"
    with pytest.raises(SpecbenchError, match="needs the cloud model in this process"):
        _ = cloud.engine
    pid = cloud.process.pid
    cloud.close()
    assert not is_running(pid)


def test_the_edge_says_which_engine_its_cloud_process_came_to_and_why(models, monkeypatch, logged):
    monkeypatch.setenv("CXX", "no-compiler-of-this-name")
    spec = CloudSpec(model=str(models / "target"), device="cpu", placement="process")
    with closing(CloudModel(spec, EngineSpec(kind="auto"))) as cloud:
        cloud.load()
        assert cloud.engine_kind == "eager"
    (line,) = (line for line in logged.messages if "cloud model runs" in line)
    assert line.startswith("the cloud model runs eagerly, for it cannot be compiled: no C++ compiler found")


def test_a_cloud_that_cannot_start_says_why(models):
    cloud = CloudModel(CloudSpec(model=str(models / "target"), device="cpu", layers=99, placement="process"))
    with pytest.raises(SpecbenchError, match="fewer than layers: 99") as refused:
        cloud.load()
    assert refused.value.exit_code == 4


@pytest.fixture
def lonely(models, tmp_path, monkeypatch):
    """A cloud in a process that is killed, that stays away with its model"""
    monkeypatch.setattr(wire, "PATIENCE_S", 0.5)
    folder = shutil.copytree(models / "target", tmp_path / "target")

    def lose(**fields):
        spec = CloudSpec(model=str(folder), device="cpu", placement="process", **fields)
        cloud = CloudModel(spec)
        stack.callback(cloud.close)
        target = cloud.verifier(GREEDY)
        first = target.begin(REQUEST)
        folder.rename(tmp_path / "away")
        os.kill(cloud.process.pid, signal.SIGKILL)
        wait_until(lambda: not cloud.process.is_alive)
        return cloud, target, first.tokens

    with ExitStack() as stack:
        yield lose


def test_a_process_that_does_not_start_again_is_a_lost_cloud(lonely, logged):
    cloud, target, _ = lonely()
    with pytest.raises(CloudLostError, match=r"could not reconnect within \d+ s: the cloud process did not"):
        target.verify()
    assert any("has ended, status -9: the edge connected through a pipe" in line for line in logged.messages)
    before = cloud.interruptions, logged.messages.count("starting the cloud process")
    with pytest.raises(CloudLostError, match="its process has ended"):
        target.begin(REQUEST)  # at once: nobody else starts it
    assert (cloud.interruptions - 1, logged.messages.count("starting the cloud process")) == before


@pytest.mark.slow
def test_who_is_to_wait_waits_for_a_process_that_does_not_start_again(lonely, tmp_path, logged):
    _, target, first = lonely(on_cloud_loss="wait")

    def bring_back():
        wait_until(lambda: logged.messages.count("starting the cloud process") >= 3, 60)
        (tmp_path / "away").rename(tmp_path / "target")

    with ThreadPoolExecutor() as pool:
        pool.submit(bring_back)
        assert target.begin(REQUEST).tokens == first


@pytest.mark.slow
def test_no_orphan_is_left_when_the_edge_is_killed(models):
    script = f"""
from specbench.profile import CloudSpec
from specbench.cloud import CloudModel
cloud = CloudModel(CloudSpec(model={str(models / "target")!r}, device="cpu", placement="process"))
cloud.load()
print(cloud.process.pid, flush=True)
import os, signal
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    pid = int(done.stdout)
    wait_until(lambda: not is_running(pid))


@pytest.mark.slow
def test_an_edge_beside_others_starts_no_process_of_its_own(models):
    spec = CloudSpec(model=str(models / "target"), device="cpu", placement="process")
    with closing(CloudModel(spec)) as cloud:
        cloud.load()
        twin = cloud.another()
        twin.load()
        before = cloud.process
        with closing(cloud.another()) as third:
            third.load()
        assert before.is_alive, "the process is everybody's, and whoever leaves does not end it"
        os.kill(before.pid, signal.SIGKILL)
        with pytest.raises(CloudLostError, match="the cloud process has ended"):
            twin.target(GREEDY)
        assert twin.process is before
        twin.close()
