"""`specbench runs`, and the names of runs wherever a run is taken."""

import json

import pytest

from specbench.results.store import RunStore


@pytest.fixture
def named(specbench, profile, tmp_path):
    """Two runs, `first` and `second`."""
    path = profile()
    for name in ("first", "second"):
        assert specbench("run", "speculative", "--profile", path, "--limit", 1, "--name", name).code == 0
    return RunStore(tmp_path / "runs")


def test_a_name_is_taken_wherever_a_run_is(specbench, named):
    first, second = named.ids()
    shown = {
        name: specbench("compare", name, "--json").json["runs"] for name in ("first", "latest", second[-6:])
    }
    assert shown == {"first": [first], "latest": [second], second[-6:]: [second]}
    both = specbench("compare", "first", "second", "--allow-unfair", "--json")
    assert both.json["runs"] == [first, second]
    assert specbench("report", "first", "--format", "json").code == 0
    assert specbench("check-dtype", "--run", "first", "--json").json["runs"][0]["run"] == first
    assert specbench("plan", "--run", "second").code == 0
    assert specbench("run", "--resume", "first").code == 0


def test_runs_lists_and_deletes(specbench, named):
    first, second = named.ids()
    rows = specbench("runs", "--json").json["runs"]
    assert [(row["run_id"], row["name"], row["profile"], row["status"]) for row in rows] == [
        (first, "first", "tiny", "finished"), (second, "second", "tiny", "finished"),
    ]  # fmt: skip
    assert all(row["methods"] == ["speculative", "cloud_optimized_baseline"] for row in rows)
    shown = specbench("runs").out
    for part in (first, "first", "finished", "tiny", "speculative", "MB"):
        assert part in shown
    refused = specbench("runs", "delete", "first")
    assert (refused.code, "add --yes" in refused.err) == (2, True)
    assert named.ids() == [first, second]
    assert specbench("runs", "delete", "first", second, "--yes").code == 0
    assert named.ids() == []
    assert "specbench run speculative" in specbench("runs").err


def test_the_folder_of_runs_may_stand_before_or_behind_delete(specbench, named):
    folder = str(named.folder)
    assert specbench("runs", "--runs-dir", folder, "delete", "first", "--yes").code == 0
    assert specbench("runs", "delete", "second", "--yes", "--runs-dir", folder).code == 0
    assert named.ids() == []


def test_a_name_that_is_taken_for_something_else_is_refused_before_the_run(specbench, profile, tmp_path):
    done = specbench("run", "speculative", "--profile", profile(), "--name", "latest")
    assert (done.code, "cannot be the name of a run" in done.err) == (2, True)
    assert not (tmp_path / "runs").exists()


def test_the_name_is_in_the_manifest(named):
    path = named.folder / named.ids()[0] / "manifest.json"
    assert json.loads(path.read_text())["name"] == "first"


def test_sweeps_stand_below_the_runs(specbench, profile, tmp_path):
    path = profile(workload={"limit": 1, "max_new_tokens": 4, "warmup": 0})
    over = ("--over", "speculative.draft_length=1,2")
    made = specbench("sweep", "speculative", "--profile", path, *over, "--json")
    assert made.code == 0, made.err
    (row,) = specbench("runs", "--json").json["sweeps"]
    assert (row["sweep_id"], row["conditions"], row["finished"], row["status"]) == (
        made.json["sweep"], 2, 2, "finished",
    )  # fmt: skip
    assert row["over"] == {"speculative.draft_length": [1, 2]}
    shown = specbench("runs").out
    assert "2 of 2" in shown
    assert "speculative.draft_length = 1, 2" in shown
    (tmp_path / "runs" / "sweeps" / f"{made.json['sweep']}.json").write_text("{")
    assert specbench("runs", "--json").json["sweeps"][0]["status"] == "damaged"
    controls = [row for row in made.json["rows"] if row["method"] == "cloud_optimized_baseline"]
    assert [row["draft_length"] for row in controls] == [1, 2]
