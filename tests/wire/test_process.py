"""The cloud in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest

from specbench.config import CloudSpec, Decoding, Options, Speculative
from specbench.decoding.request import Request
from specbench.errors import CloudLostError, SpecbenchError
from specbench.factories import CloudModel

GREEDY = Options(Decoding(), Speculative())
REQUEST = Request(tuple(range(10, 40)), 16, frozenset([1]))


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


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


def test_a_cloud_that_cannot_start_says_why(models):
    cloud = CloudModel(CloudSpec(model=str(models / "target"), device="cpu", layers=99, placement="process"))
    with pytest.raises(SpecbenchError, match="fewer than layers: 99") as refused:
        cloud.load()
    assert refused.value.exit_code == 4


def test_no_orphan_is_left_when_the_edge_is_killed(models):
    script = f"""
from specbench.config import CloudSpec
from specbench.factories import CloudModel
cloud = CloudModel(CloudSpec(model={str(models / "target")!r}, device="cpu", placement="process"))
cloud.load()
print(cloud.process.pid, flush=True)
import os, signal
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    pid = int(done.stdout)
    wait_until(lambda: not is_running(pid))


def test_an_edge_beside_others_starts_no_process_of_its_own(models):
    spec = CloudSpec(model=str(models / "target"), device="cpu", placement="process")
    with closing(CloudModel(spec, lambda line: None)) as cloud:
        cloud.load()
        twin = cloud.another()
        twin.load()
        before = cloud.process
        os.kill(before.pid, signal.SIGKILL)
        with pytest.raises(CloudLostError, match="the cloud's process has ended"):
            twin.target(GREEDY)
        assert twin.process is before
        twin.close()
