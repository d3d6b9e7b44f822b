"""`run --restarts`: one run of several processes, one of which may be lost."""

import pytest
from stores import stored

COUNTING = """
import os
from pathlib import Path

from specbench.plugins.cloud_optimized_baseline import CloudOptimizedBaseline
from specbench.api import hookimpl

class Counting(CloudOptimizedBaseline):
    name = "counting"
    summary = "the control, which writes down its process"

    def open(self, edge, cloud, options):
        log = Path("{log}")
        before = log.read_text().split() if log.exists() else []
        log.write_text(" ".join([*before, str(os.getpid())]))
        if len(before) + 1 == {dies}:
            os._exit(3)
        return super().open(edge, cloud, options)

@hookimpl
def specbench_method():
    return Counting()
"""


@pytest.fixture
def counting(tmp_path):
    def write(dies=0):
        path = tmp_path / "counting.py"
        path.write_text(COUNTING.format(log=tmp_path / "processes", dies=dies))
        return path, tmp_path / "processes"

    return write


def test_each_restart_is_a_process_of_its_own_and_all_are_one_run(specbench, profile, tmp_path, counting):
    plugin, log = counting()
    words = ("--profile", profile(), "--limit", "2", "--max-new-tokens", "4", "--plugin", plugin)
    done = specbench("run", "counting", *words, "--restarts", "2", "--json")
    assert done.code == 0, done.err
    assert len(set(log.read_text().split())) == 2
    run = stored(tmp_path)
    assert (run.manifest.status, run.faults) == ("finished", ())
    assert {each.repeat for each in run.generations} == {0, 1}
    assert run.manifest.recomputation is not None
    row = done.json["methods"]["counting"]
    assert (row["restarts"], row["exact_match"]) == (2, 1.0)
    assert any("2 restarts are too few" in note for note in done.json["notes"])
    made = specbench("bundle", "latest", "--out", tmp_path / "b.zip")
    assert made.code == 0, made.err
    assert specbench("recheck", tmp_path / "b.zip").code == 0


def test_a_lost_restart_is_one_error_and_what_was_measured_is_kept(specbench, profile, tmp_path, counting):
    plugin, _ = counting(dies=2)
    words = ("--profile", profile(), "--limit", "2", "--max-new-tokens", "4", "--plugin", plugin)
    done = specbench("run", "counting", *words, "--restarts", "2")
    assert done.code == 3
    assert done.err.count("error:") == 1
    run = stored(tmp_path)
    assert f"restart 2 of 2 of run {run.manifest.run_id} did not come to its end" in done.err
    kept = run.generations
    assert {each.repeat for each in kept} == {0}
    resumed = specbench("run", "--resume", run.manifest.run_id)
    assert resumed.code == 0, resumed.err
    run = stored(tmp_path)
    assert run.generations[: len(kept)] == kept
    assert (run.manifest.status, len(run.generations)) == ("finished", 2 * len(kept))


def test_bad_input_is_refused_as_without_restarts(specbench, profile):
    done = specbench("run", "no_such_method", "--profile", profile(), "--restarts", "2")
    without = specbench("run", "no_such_method", "--profile", profile())
    assert (done.code, done.err.splitlines()[-2:]) == (without.code, without.err.splitlines()[-2:])
