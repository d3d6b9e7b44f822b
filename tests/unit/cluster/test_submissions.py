"""Submissions without a job: what is refused, what is written down, and what a state is made of."""

import fcntl
import stat
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from socket import gethostname

import pytest
from builders import generation, manifest
from comparisons import pair, run

from specbench.atomic import write_json
from specbench.benchmark import differences as manifests
from specbench.benchmark.child_process import Ended, beside, read_job
from specbench.benchmark.job import new_job
from specbench.cluster import submission as submissions
from specbench.cluster.jobs import FRUITLESS, REQUEUE_S, Follower, judge
from specbench.cluster.launchers import Known, Slurm
from specbench.cluster.submission import Handed, Point, Submission
from specbench.errors import SpecbenchError
from specbench.profile import ClusterSpec, NodeSpec, Profile, load_profile
from specbench.results.records import Divergence
from specbench.results.store import RunStore

TWO_NODES = ("--set", "cluster.cloud={}")
SETTINGS = ["workload.limit=3", "speculative.typical_epsilon=0.00001", 'cloud.max_memory={"0": 3GiB}',
            "cloud.device_map=auto", "cloud.device=auto"]  # fmt: skip


@pytest.mark.parametrize(
    ("ended", "known", "cancelled", "state"),
    [
        (Ended("done", 0), None, False, "done"),
        (Ended("done", 7), "FAILED", False, "done"),
        (Ended("done", 0), "RUNNING", True, "done"),
        (None, "PENDING", False, "waiting"),
        (None, "COMPLETED", False, "lost"),
        (None, "RUNNING", False, "running"),
        (None, "CONFIGURING", False, "waiting"),
        (None, "FAILED", False, "lost"),
        # The scheduler forgets what is over.
        (None, None, False, "lost"),
        (None, "TIMEOUT", False, "lost"),
        (None, "NODE_FAIL", False, "waiting"),
        (None, "PREEMPTED", False, "waiting"),
        (Ended("interrupted", 137, "killed"), "NODE_FAIL", False, "waiting"),
        (None, "NODE_FAIL", True, "cancelled"),
        (Ended("interrupted", 7, "the cloud was lost"), None, False, "lost"),
        (Ended("interrupted", 137, "killed"), "PENDING", False, "waiting"),
        (Ended("failed", 4, "no such model"), "FAILED", False, "failed"),
        (Ended("failed", 5, "no space"), "COMPLETED", False, "failed"),
        (None, "CANCELLED", False, "cancelled"),
        (None, "RUNNING", True, "cancelled"),
    ],
)
def test_a_state_follows_from_how_a_job_ended_and_from_the_scheduler(ended, known, cancelled, state):
    assert judge(ended, known and Known(known), cancelled) == state


def test_a_job_that_slurm_will_requeue_is_submitted_again_only_if_it_does_not(tmp_path, monkeypatch):
    seconds, states = [0.0], ["NODE_FAIL", "NODE_FAIL", "PENDING", "NODE_FAIL", "NODE_FAIL"]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    monkeypatch.setattr(Slurm, "known", lambda self, ids: {ids[0]: Known(states.pop(0))})
    asked = submission(Point("s1-0", {}, (Handed("7", 0),)), launcher="slurm")
    follower, seen = Follower(asked, RunStore(tmp_path)), []
    while states:
        seen += [each.state for each in follower.look()]
        seconds[0] += REQUEUE_S - 1 if len(seen) < 4 else REQUEUE_S
    assert seen == ["waiting", "waiting", "waiting", "waiting", "lost"]


def test_a_submission_is_collected_by_one_at_a_time(tmp_path):
    follower = Follower(submission(Point("s1-0", {}), cancelled=True), RunStore(tmp_path))
    submissions.prepare(follower.store, follower.submission, [job()])
    assert [each.state for each in follower.wait()] == ["cancelled"]
    with (tmp_path / "submissions" / "s1" / "collecting").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SpecbenchError, match="is already being collected"):
            follower.wait()


def test_a_cancelling_is_heard_by_who_collects_and_never_undone(tmp_path):
    store, asked = RunStore(tmp_path), submission(Point("s1-0", {}))
    submissions.prepare(store, asked, [job()])
    collecting, cancelling = Follower(asked, store), Follower(asked, store)
    assert [each.state for each in collecting.look()] == ["lost"]
    cancelling.cancel()
    collecting._keep(asked.with_point(0, Point("s1-0", {"a": 1})))
    assert [each.state for each in collecting.wait()] == ["cancelled"]
    assert submissions.read(store, "s1") == submission(Point("s1-0", {"a": 1}), cancelled=True)


def submission(*points, **fields):
    return Submission("s1", "run", points=points, **{"launcher": "local", **fields})


def job(settings=(), methods=("speculative",)):
    return new_job(RunStore(Path("/runs")), load_profile("default", settings), "default", methods)


@pytest.mark.parametrize(("stored", "state"), [(0, "failed"), (1, "lost")])
def test_jobs_that_are_killed_and_add_nothing_come_to_an_end(tmp_path, stored, state):
    store = RunStore(tmp_path)
    writer = store.create(manifest("s1-0", status="running"))
    for _ in range(stored):
        writer.append([generation()])
    jobs = tuple(Handed(f"1@{gethostname()}", 0) for _ in range(FRUITLESS))
    follower = Follower(submission(Point("s1-0", {}, jobs)), store)
    assert [each.state for each in follower.look()] == [state]


def test_collecting_ends_as_the_run_did(specbench, tmp_path):
    store, bug = RunStore(tmp_path / "runs"), Divergence("m", "1", 0, 0, 3, (1, 2), verdict="bug")
    submissions.prepare(store, submission(Point("s1-0", {}, (Handed(f"1@{gethostname()}", 0),))), [job()])
    made = run(pair(12, 1.4), "s1-0", divergences=(bug,))
    store.create(made.manifest).append(
        [replace(one, arrival_ms=tuple(map(float, one.arrival_ms))) for one in made.generations]
    )
    write_json(beside(submissions.job_of(store, "s1", 0)), Ended("done", 9))
    done = specbench("submit", "collect")
    assert done.code == 9, done.err
    assert "No verdict: m produced wrong text." in done.out
    assert "0 done; 24 answers; exit status 9" in specbench("submit", "status").out


def test_a_point_whose_worker_never_came_to_it_has_not_failed_and_that_job_does_not_count(tmp_path):
    jobs = tuple(Handed(f"1@{gethostname()}", 0) for _ in range(FRUITLESS))
    asked = submission(Point("s1-0", {}, jobs))
    follower = Follower(asked, RunStore(tmp_path))
    submissions.prepare(follower.store, asked, [job(methods=["speculatve"])])
    assert [each.state for each in follower.look()] == ["failed"]
    (tmp_path / "submissions" / "s1" / "0" / "pending").touch()
    assert [each.state for each in follower.look()] == ["lost"]
    (seen,) = follower.wait()
    assert (seen.state, seen.note) == ("failed", "there is no method 'speculatve'")  # it began, and said why
    assert len(follower.submission.points[0].jobs) == FRUITLESS


def test_two_jobs_never_run_one_point_and_the_second_leaves_no_trace(tmp_path):
    store, asked = RunStore(tmp_path), submission(Point("s1-0", {}))
    submissions.prepare(store, asked, [job(methods=["speculatve"])])
    folder = tmp_path / "submissions" / "s1" / "0"
    with (folder / "running").open("w") as lock:  # as a job that was queued though sbatch failed
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert subprocess.run(["sh", folder / "job.sh"], check=False).returncode
        assert not (folder / "log").exists()
        assert [each.state for each in Follower(asked, store).look()] == ["running"]
    assert [each.state for each in Follower(asked, store).look()] == ["lost"]
    subprocess.run(["sh", folder / "job.sh"], check=False)
    assert [each.state for each in Follower(asked, store).look()] == ["failed"]


def test_a_submission_is_for_its_owner_and_freezes_the_profile(tmp_path):
    store, asked = RunStore(tmp_path), submission(Point("s1-0", {}))
    submissions.prepare(store, asked, [job(SETTINGS)])
    folder = tmp_path / "submissions" / "s1"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    asked_for = read_job(folder / "0" / "job.json")
    assert Profile.model_validate(asked_for.profile) == load_profile("default", SETTINGS)
    assert (asked_for.run_id, asked_for.whole_prompts) == ("s1-0", True)
    assert submissions.read(store, None) == asked
    (folder / "submission.json").write_text((folder / "submission.json").read_text().replace(": 2\n", ": 9\n"))
    with pytest.raises(SpecbenchError, match="schema version 9"):
        submissions.read(store, "s1")
    (folder / "submission.json").write_text("{")
    with pytest.raises(SpecbenchError, match="is damaged"):
        submissions.read(store, "s1")


def test_a_resumed_job_drops_a_prompt_that_not_all_methods_have_answered(tmp_path):
    store = RunStore(tmp_path)
    writer = store.create(manifest(methods=("a", "b")))
    for prompt_id, method in (("1", "a"), ("1", "b"), ("2", "b")):
        writer.append([generation(prompt_id, method=method)])
    assert len(store.reopen("r1")[0].generations) == 3
    assert len(store.reopen("r1", whole_prompts=True)[0].generations) == 2
    assert len(store.reopen("r1", whole_prompts=True)[0].generations) == 2
    assert len(store.read("r1").generations) == 2


def test_where_a_job_waited_is_no_difference_between_runs():
    left, right = (manifest(profile={"cluster": {"partition": name}, "link": {}}) for name in ("a", "b"))
    assert list(manifests.differences(left, right)) == []


@pytest.mark.parametrize(("place", "found"), [("ws://n1:1", []), ("process", ["cloud.placement"])])
def test_servers_of_two_jobs_have_two_addresses_and_that_is_no_difference(place, found):
    left, right = (manifest(profile={"cloud": {"placement": each}}) for each in (place, "wss://n2:2"))
    assert [key for key, _, _ in manifests.differences(left, right)] == found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "speculatve"], "speculative"),
        (["run", "speculative", "--limits", "3"], "--limits"),
        (["run", "speculative", "--set", "cluster.partitions=a"], "cluster.partition"),
        (["run", "speculative", "--set", "cluster.memory=lots"], "is not a size"),
        (["run", "speculative", "--resume", "x"], "--resume has no effect with submit"),
        (["run", "speculative", "--json"], "--json has no effect with submit"),
        (["run", "speculative", "--launcher", "local", "--set", "cluster.cloud={}"], "one machine"),
        (["sweep", "speculative"], "and one --over"),
        (["sweep", "speculative", "--over", "link.rtt_ms=1,-2"], "rtt_ms"),
        (["sweep", "speculative", "--over", "link.rtt_ms=1", "--workers", "2"], "--workers has no effect"),
        (["sweep", "speculative", "--over", "link.rtt_ms=1", "--charts", "x"], "--charts has no effect"),
        (["sweep", "speculative", "--over", "cluster.cpus=1,2"], "they cannot be varied"),
        (["sweep", "speculative", "--over", "link.rtt_ms=1", *TWO_NODES, "--launcher", "local"], "one machine"),
        (
            [
                "sweep",
                "speculative",
                "--over",
                "cloud.on_cloud_loss=fail,wait",
                "--set",
                "cloud.placement=process",
                *TWO_NODES,
            ],
            "on_cloud_loss is wait",
        ),
        (["run", "speculative", *TWO_NODES, "--set", "cloud.placement=ws://h:1"], "placement is ws://h:1"),
        (
            [
                "run",
                "speculative",
                *TWO_NODES,
                "--set",
                "cloud.placement=process",
                "--set",
                "link.kind=emulated",
            ],
            "link.kind is emulated",
        ),
        (["sweep", "--replay", "x", "--costs", "y"], "--replay has no effect with submit"),
        (
            ["sweep", "speculative", "--over", "link.rtt_ms=1", "--charts", "x"],
            "--charts has no effect with submit",
        ),
        (["status"], "nothing was submitted"),
        (["collect", "none"], "nothing was submitted"),
        (["cancel"], "nothing was submitted"),
        (["pair", "x.json"], "x.json cannot be read"),
    ],
)
def test_a_wrong_submission_gets_one_clear_error_before_anything_is_submitted(
    specbench, tmp_path, arguments, message
):
    done = specbench("submit", *arguments)
    assert done.code in (2, 3, 5, 6)
    assert message in done.err
    assert not (tmp_path / "runs" / "submissions").exists()
    assert not list((tmp_path / "runs").glob("sweeps/*"))


def test_without_slurm_the_error_names_the_other_launcher(specbench, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = specbench("submit", "run", "speculative")
    assert done.code == 2
    assert "--launcher local" in done.err
    assert not list((tmp_path / "runs" / "submissions").iterdir())


def test_slurm_is_asked_for_what_the_profile_says_of_both_nodes(tmp_path, monkeypatch):
    (tmp_path / "sbatch").write_text('#!/bin/sh\ncat "$1" > "${0%/*}/asked"\necho Submitted batch job 17\n')
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    for name in ("sbatch", "srun"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    cloud = NodeSpec(partition="gpu", gpus=2, memory="1.5 GiB")
    spec = ClusterSpec(partition="cpu", cpus=4, minutes=30, account="me", exclusive=False, cloud=cloud)
    assert list(Slurm(tmp_path, spec).start([3])) == [(3, "17")]
    first, second = (tmp_path / "asked").read_text().split("#SBATCH hetjob\n")
    for flag in ("partition=cpu", "cpus-per-task=4", "time=30", "account=me", "requeue"):
        assert f"#SBATCH --{flag}\n" in first
    for flag in ("partition=gpu", "gpus-per-node=2", "mem=1536M", "time=30", "account=me"):
        assert f"#SBATCH --{flag}\n" in second
    assert "exclusive" not in first + second
    assert second.rstrip().endswith(f"sh {tmp_path}/3/job.sh")
    assert not list(tmp_path.rglob("*.pkl"))
