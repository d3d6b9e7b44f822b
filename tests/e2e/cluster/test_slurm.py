"""A real scheduler of two nodes: a sweep, jobs killed, preempted and cancelled, a crash, a job of two nodes."""

import json
import os
from dataclasses import dataclass

import pytest
from cluster_place import Place, whole_prompts
from waiting import wait_until

METHODS = ("speculative", "cloud_optimized_baseline")
pytestmark = pytest.mark.timeout(1800)  # a job is a new process with all its imports, and a sweep has twelve


@pytest.fixture
def place(slurm, models, tmp_path):
    return Place(tmp_path, models, slurm.environment)


@dataclass
class Swept:
    """A sweep of twelve points, one of whose jobs was killed, and one of whose nodes crashed meanwhile."""

    place: Place
    collected: object
    points: list
    killed: tuple
    crashed: tuple


@pytest.fixture(scope="module")
def swept(slurm, models, tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("sweep"), models, slurm.environment)
    place.submit("sweep", "--over", "speculative.draft_length=1..12")
    run_id, process, lines = place.half_way()
    process.kill()
    killed = run_id, lines
    run_id, process, lines = place.half_way(
        lambda process: process.environ().get("SLURMD_NODENAME") == "n2" and place.run_of(process) != killed[0]
    )
    slurm.crash("n2")
    crashed = run_id, lines
    slurm.bring_back("n2")
    wait_until(slurm.hurry)
    collected = place("submit", "collect", "--json")
    points = place("submit", "status", "--json").json["points"]
    return Swept(place, collected, points, killed, crashed)


def test_a_sweep_of_twelve_points_lands_in_the_store_with_its_map(swept):
    assert swept.collected.code == 0, swept.collected.err
    rows = swept.collected.json["rows"]
    assert [row["draft_length"] for row in rows if row["method"] == "speculative"] == list(range(1, 13))
    assert [point["state"] for point in swept.points] == ["done"] * 12
    for number, run_id in swept.collected.json["runs"].items():
        manifest = swept.place.manifest(run_id)
        assert manifest["status"] == "finished"
        assert manifest["profile"]["speculative"]["draft_length"] == int(number) + 1
        answers = [json.loads(line) for line in swept.place.lines(run_id)]
        assert len(answers) == 2 * 5
        assert {answer["method"] for answer in answers} == set(METHODS)


def test_a_killed_job_is_submitted_again_and_goes_on_from_its_own_records(swept):
    run_id, lines = swept.killed
    (point,) = [point for point in swept.points if point["run"] == run_id]
    assert len(point["jobs"]) == 2
    kept = whole_prompts(lines)
    assert swept.place.lines(run_id)[: len(kept)] == kept
    assert "resubmitted" in swept.collected.err


def test_the_job_of_a_node_that_goes_down_is_run_again_by_the_scheduler(swept):
    run_id, lines = swept.crashed
    (point,) = [point for point in swept.points if point["run"] == run_id]
    kept = whole_prompts(lines)
    assert swept.place.lines(run_id)[: len(kept)] == kept
    assert len(point["jobs"]) == 1


def test_a_preempted_job_is_run_again_by_the_scheduler_and_goes_on_from_its_own_records(place, slurm):
    submission = place.submit("run")
    run_id, process, lines = place.half_way()
    slurm.ask("sbatch", "-p", "urgent", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
    wait_until(lambda: not process.is_running())
    wait_until(slurm.hurry)
    assert place("submit", "collect", submission).code == 0
    (point,) = place("submit", "status", "--json").json["points"]
    assert (point["state"], len(point["jobs"])) == ("done", 1)
    kept = whole_prompts(lines)
    assert place.lines(run_id)[: len(kept)] == kept
    assert len(place.lines(run_id)) == 2 * 5


def test_a_cancelled_job_is_over_and_not_submitted_again(place, slurm):
    submission = place.submit("run")
    run_id, process, lines = place.half_way()
    assert place("submit", "cancel", submission).code == 0
    wait_until(lambda: not process.is_running())
    wait_until(lambda: "RUNNING" not in slurm.ask("squeue", "-h", "-o", "%T"))
    collected = place("submit", "collect", submission)
    assert collected.code == 7
    assert "job 0 cancelled" in collected.err
    (point,) = place("submit", "status", "--json").json["points"]
    assert (point["state"], len(point["jobs"])) == ("cancelled", 1)
    assert place.lines(run_id)[: len(lines)] == lines


def test_a_job_of_two_nodes_serves_on_one_and_runs_on_the_other(place, slurm):
    submission = place.submit("run", "--set", "cluster.cloud={partition: main}")
    run_id, process, lines = place.half_way()
    served = [each for each in slurm.processes() if "serve" in each.cmdline() and each.name() != "srun"]
    assert [each.environ()["SLURMD_NODENAME"] for each in served] == ["n2"]
    assert process.environ()["SLURMD_NODENAME"] == "n1"
    assert {len(each.cpu_affinity()) for each in (process, *served)} == {os.cpu_count()}
    process.kill()  # they end together, and a second job goes on
    collected = place("submit", "collect", submission, "--json")
    assert collected.code == 0, collected.err
    assert not any(each.is_running() for each in served)
    cloud = place.manifest(run_id)["profile"]["cloud"]
    assert cloud["placement"].startswith("ws://127.0.0.2:")
    kept = whole_prompts(lines)
    assert place.lines(run_id)[: len(kept)] == kept
    assert len(place.lines(run_id)) == 2 * 5
    assert not list(place.runs.rglob("token"))


def test_a_job_that_slurm_refuses_is_one_error_and_nothing_is_left(place):
    words = ("submit", "run", "speculative", "--profile", place.profile, "--set", "cluster.partition=none")
    refused = place(*words)
    assert refused.code == 7
    assert "invalid partition" in refused.err
    assert not list((place.runs / "submissions").iterdir())
