"""What a job of two nodes asks of Slurm, and what becomes of it when its server dies."""

import os

import pytest

from specbench.benchmark.job import new_job
from specbench.cluster.pair import serve_and_run
from specbench.errors import ExitCode, SpecbenchError
from specbench.profile import load_profile
from specbench.results.store import RunStore

SAYS = '#!/bin/sh\necho "$0 $*" >> "${0%/*}/asked"\nenv >> "${0%/*}/asked"\n'


@pytest.fixture
def job(tmp_path, monkeypatch, profile):
    """A job of two nodes, in which srun does what a script says."""

    def make(script):
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "srun").write_text(SAYS + script)
        (folder / "scontrol").write_text("#!/bin/sh\necho NodeName=n2 NodeAddr=127.0.0.1\n")
        for path in folder.iterdir():
            path.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        monkeypatch.setenv("SLURM_JOB_NODELIST_HET_GROUP_1", "n2")
        monkeypatch.setenv("SLURM_MEM_PER_NODE", "1024")
        monkeypatch.setenv("SLURM_GPUS_PER_NODE", "1")
        loaded = load_profile(str(profile(cluster={"cloud": {"cpus": 3}})))
        return new_job(RunStore(tmp_path / "runs"), loaded, "tiny", ["speculative"]), folder / "asked"

    return make


def test_the_server_is_not_given_the_limits_of_the_edge(job, tmp_path):
    asked_for, asked = job("exit 3\n")
    with pytest.raises(SpecbenchError, match="did not start") as refused:
        serve_and_run(asked_for, tmp_path)
    assert refused.value.exit_code == ExitCode.PROFILE
    assert "--het-group=1" in asked.read_text()
    assert "--cpus-per-task=3" in asked.read_text()
    assert "SLURM_MEM_PER_NODE" not in asked.read_text()
    assert "SLURM_GPUS_PER_NODE" not in asked.read_text()


def test_a_server_that_is_killed_before_it_serves_is_told_from_one_that_refuses(job, tmp_path):
    asked_for, _ = job("exit 137\n")
    with pytest.raises(SpecbenchError, match="killed by signal 9") as refused:
        serve_and_run(asked_for, tmp_path)
    assert refused.value.exit_code == 137


def test_a_run_that_ends_since_its_server_died_says_that_it_was_killed(job, tmp_path):
    asked_for, _ = job("echo ws://0.0.0.0:9\n")  # and it ends, before anything is answered
    ended = serve_and_run(asked_for, tmp_path)
    assert (ended.state, ended.code) == ("interrupted", 137)
    assert not (tmp_path / "runs").exists()


def test_a_process_that_is_no_job_of_two_nodes_is_refused(profile, tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_NODELIST_HET_GROUP_1", raising=False)
    asked_for = new_job(RunStore(tmp_path), load_profile(str(profile())), "tiny", ["speculative"])
    with pytest.raises(SpecbenchError, match="not a job of two nodes"):
        serve_and_run(asked_for, tmp_path)
