"""Jobs on this machine: no scheduler, the same states, the same resuming."""

import json
import os

import pytest
from cluster_place import Place
from waiting import wait_until


@pytest.fixture
def place(models, tmp_path):
    place = Place(tmp_path, models, {**os.environ, "OMP_NUM_THREADS": "1"})
    yield place
    if (place.runs / "submissions").exists():
        place("submit", "cancel")
        wait_until(lambda: not place.processes())


@pytest.mark.slow
def test_a_sweep_whose_worker_is_killed_goes_on_and_a_run_is_never_written_by_two(place):
    submission = place.submit("sweep", "--over", "speculative.draft_length=2,3", "--launcher", "local")
    run_id, process, lines = place.half_way()
    early = place("sweep", "--resume", submission)
    assert (early.code, "is still running" in early.err) == (7, True), early.err
    assert place("submit", "collect", "--minutes", 0).code == 7
    assert run_id in (place.runs / "sweeps" / f"{submission}.json").read_text()
    (worker,) = [each for each in place.processes() if each.name() == "flock"]
    worker.kill()  # its run lives on and holds the lock, behind which the next worker waits
    collected = place("submit", "collect", "--json")
    assert collected.code == 0, collected.err
    assert not process.is_running()
    assert place.lines(run_id)[: len(lines)] == lines
    assert {len(place.lines(run)) for run in collected.json["runs"].values()} == {2 * 5}
    assert collected.json["sweep"] == submission
    again = place("sweep", "--resume", submission, "--json")
    assert again.json["rows"] == collected.json["rows"]


def test_a_cancelled_run_is_over_and_not_submitted_again(place):
    place.submit("run", "--launcher", "local")
    run_id, _, lines = place.half_way()
    assert place("submit", "cancel").code == 0
    wait_until(lambda: not place.processes())
    collected = place("submit", "collect")
    assert collected.code == 7
    assert "job 0 cancelled" in collected.err
    assert place.lines(run_id)[: len(lines)] == lines


def test_a_job_that_cannot_begin_has_failed_with_its_reason(place):
    place.submit("run", "--set", f"edge.model={place.folder}", "--launcher", "local")
    collected = place("submit", "collect")
    assert collected.code == 7
    assert "job 0 failed" in collected.err
    assert "config.json" in collected.err


def test_a_job_asks_for_what_was_submitted(place):
    broken = f"edge.model={place.folder}"
    submission = place.submit("run", "--only", "--isolate", "--set", broken, "--launcher", "local")
    asked = json.loads((place.runs / "submissions" / submission / "0" / "job.json").read_text())
    assert (asked["only"], asked["isolate"]) == (True, True)
    assert asked["profile"]["edge"]["model"] == str(place.folder)
