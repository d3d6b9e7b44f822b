"""Compute threads: who waits has none, so that they slow nobody."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from specbench.benchmark.preparation import prepare
from specbench.cloud import CloudModel
from specbench.engine.threads import model_thread, release_compute_threads
from specbench.profile import CloudSpec, Decoding, load_profile
from specbench.registry import discover
from specbench.serving_load.recorded import edges_of
from specbench.speculation.generate import generate_commits
from specbench.speculation.request import Request

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists() or not torch.backends.openmp.is_available(),
    reason="counts the threads of a Linux process whose torch computes with OpenMP",
)


def tasks():
    return {path.name for path in Path("/proc/self/task").iterdir()}


def count():
    return len(tasks())


def compute():
    """A parallel region of two threads."""
    torch.ones(1 << 20).add(1)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
    release_compute_threads()


def test_a_team_that_is_sent_home_is_gone_and_comes_back_when_it_is_needed(two_threads):
    release_compute_threads()
    alone = count()
    compute()
    assert count() == alone + 1
    release_compute_threads()
    assert count() == alone
    compute()
    assert count() == alone + 1


def test_a_team_of_another_thread_stays(two_threads):
    release_compute_threads()
    with model_thread() as worker:
        worker.submit(compute).result()
        with_team = count()
        release_compute_threads()
        assert count() == with_team
        worker.submit(release_compute_threads).result()
        assert count() == with_team - 1


def test_generate_runs_beside_no_idle_team(two_threads, models):
    cloud = CloudModel(CloudSpec(model=str(models / "target"), device="cpu"))
    loaded = cloud.engine.loaded
    release_compute_threads()
    alone = tasks()
    compute()
    team = tasks() - alone
    assert team
    commits = generate_commits(loaded, Request((5, 6, 7), 4, frozenset(), seed=0), Decoding())
    next(commits)
    assert not team & tasks()
    commits.close()


def test_many_edges_draft_beside_no_idle_team(two_threads, models, profile):
    path = profile(edge={"model": str(models / "draft")}, cloud={"model": str(models / "target")})
    prepared = prepare(load_profile(str(path), ["edge.threads=2"]), [discover(()).get("speculative")])
    release_compute_threads()
    alone = tasks()
    compute()
    team = tasks() - alone
    assert team
    edges_of(prepared, None)
    assert not team & tasks()


def test_it_needs_no_torch():
    code = "import sys; from specbench.engine import threads; threads.release_compute_threads()"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
