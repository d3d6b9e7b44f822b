"""Sweeps: a stored run a condition, what was stopped goes on, and a map of where each method wins."""

import json
import sys
from dataclasses import replace

import pytest
from builders import manifest

from specbench.bench import sweep as sweeps
from specbench.bench.store import RunStore
from specbench.bench.sweeper import Sweeper
from specbench.config import load_profile
from specbench.errors import SpecbenchError
from specbench.records import Failure

OVER = ("--over", "speculative.draft_length=1,3", "--over", "decoding.repetition_penalty=1.0")


@pytest.fixture
def small(profile):
    return profile(workload={"limit": 2, "max_new_tokens": 6, "warmup": 0})


def test_a_sweep_stores_a_run_a_condition_and_resumes_what_is_missing(specbench, small, tmp_path):
    done = specbench("sweep", "speculative", "--profile", small, *OVER, "--json")
    assert done.code == 0, done.err
    store = RunStore(tmp_path / "runs")
    lengths = {
        store.read(run_id).manifest.profile["speculative"]["draft_length"]
        for run_id in done.json["runs"].values()
    }
    assert lengths == {1, 3}
    rows = [row for row in done.json["rows"] if row["method"] == "speculative"]
    assert [row["draft_length"] for row in rows] == [1, 3]
    assert [row["condition"] for row in rows] == [{"decoding.repetition_penalty": 1.0}] * 2
    assert "about" in done.err

    sweep_id, before = done.json["sweep"], store.ids()
    again = specbench("sweep", "--resume", sweep_id)
    assert again.code == 0, again.err
    assert store.ids() == before
    assert "fastest" in again.out

    path = tmp_path / "runs" / "sweeps" / f"{sweep_id}.json"
    row = json.loads(path.read_text())
    row["finished"].remove(1)
    del row["runs"]["1"]
    row["seconds"] = {}  # as 'submit collect' leaves it: the jobs were not timed
    path.write_text(json.dumps(row))
    assert specbench("sweep", "--resume", sweep_id).code == 0
    assert len(store.ids()) == len(before) + 1

    small.write_text(small.read_text().replace("max_new_tokens: 6", "max_new_tokens: 7"))
    changed = specbench("sweep", "--resume", sweep_id)
    assert changed.code == 5
    assert "has changed since" in changed.err


def test_a_condition_that_fails_holds_up_no_other_and_is_named_at_the_end(specbench, small, models, tmp_path):
    names = [tmp_path / "absent", models / "draft", tmp_path / "later"]  # those that fail run first
    done = specbench(
        "sweep",
        "speculative",
        "--profile",
        small,
        "--over",
        f"edge.model={','.join(map(str, names))}",
        "--json",
    )
    assert done.code == 4
    assert done.err.count("ended with exit status 4") == 2
    assert f"2 of 3 conditions ended early, for the reasons above: edge.model={names[0]}; edge" in done.err
    assert "condition 3 of 3" in done.err
    assert [row["condition"]["edge.model"] for row in done.json["rows"]] == [str(names[1])] * 2
    hint = f"sweep --resume {done.json['sweep']}"
    assert hint in done.err

    (tmp_path / "later").symlink_to(models / "draft")
    again = specbench(*hint.split(), "--json")
    assert again.code == 4
    assert "1 of 3 conditions ended early" in again.err
    assert [row["condition"]["edge.model"] for row in again.json["rows"]] == [str(names[1])] * 2 + [
        str(names[2])
    ] * 2


def test_a_condition_behind_which_no_run_is_stored_is_not_finished(specbench, small, tmp_path):
    # Nobody listens at that place: the same exit code as that of a run of which a method failed.
    done = specbench("sweep", "speculative", "--profile", small, "--set", "cloud.placement=ws://127.0.0.1:9",
                     "--over", "speculative.draft_length=2")  # fmt: skip
    assert done.code == 7
    assert "ended with exit status 7" in done.err
    (path,) = (tmp_path / "runs" / "sweeps").glob("*.json")
    assert json.loads(path.read_text())["finished"] == []


@pytest.mark.parametrize(
    ("code", "status", "failures", "finished"),
    [
        (0, "finished", (), True),
        (7, "failed", (Failure("m", None, "it broke"),), True),
        (7, "failed", (), False),
        (7, "interrupted", (Failure("m", None, "it broke"),), False),
        (4, "finished", (), False),
    ],
)
def test_a_condition_is_finished_where_its_run_came_to_its_end(tmp_path, code, status, failures, finished):
    store = RunStore(tmp_path)
    store.create(manifest("r1", status=status, failures=failures))
    asked = sweeps.Sweep("s", ("m",), "default", (), {"link.rtt_ms": [0]}, "", runs={0: "r1"})
    assert Sweeper(asked, store, print)._came_to_its_end(0, code) is finished
    assert not Sweeper(replace(asked, runs={}), store, print)._came_to_its_end(0, code)


def test_a_sweep_over_a_trace_is_a_replay(specbench, tmp_path):
    from test_replay import costs, trace

    from specbench.bench.traces import write_trace
    from specbench.config.costs import write_costs

    write_trace(tmp_path / "t.json", trace())
    write_costs(tmp_path / "c.yaml", costs())
    place = (tmp_path / "t.json", "--costs", tmp_path / "c.yaml", "--over", "link.rtt_ms=0,9", "--json")
    swept, replayed = specbench("sweep", "--replay", *place), specbench("replay", *place)
    assert swept.code == 0, swept.err
    assert swept.json == replayed.json


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speculative"], "a key to vary"),
        (["--over", "link.rtt_ms=1"], "needs methods"),
        (["speculatve", "--over", "link.rtt_ms=1"], "speculative"),
        (["speculative", "--over", "link.rtt=1,2"], "no key 'link.rtt'"),
        (["speculative", "--over", "link.rtt_ms=1,-2"], "rtt_ms"),
        (["--resume", "none"], "no sweep 'none'"),
        (["--replay", "t.json"], "go together"),
        (["--replay", "t.json", "--costs", "c.yaml", "--set", "link.rtt_ms=1"], "--set has no effect"),
        (["--replay", "t.json", "--costs", "c.yaml", "--profile", "x"], "--profile has no effect"),
        (["--replay", "t.json", "--costs", "c.yaml", "--plugin", "x.py"], "--plugin has no effect"),
        (["--replay", "t.json", "--costs", "c.yaml", "--resume", "x"], "--resume has no effect"),
        (["--resume", "none", "--over", "link.rtt_ms=1"], "--over has no effect"),
        (["--resume", "none", "--set", "link.rtt_ms=1"], "--set has no effect"),
        (["speculative", "--resume", "none"], "METHODS has no effect"),
    ],
)
def test_a_wrong_sweep_gets_one_clear_error_before_anything_runs(specbench, tmp_path, arguments, message):
    done = specbench("sweep", *arguments)
    assert done.code in (2, 3, 5, 6)
    assert message in done.err
    assert not (tmp_path / "runs" / "sweeps").exists()


@pytest.mark.parametrize(
    ("place", "missing", "message"),
    [
        ("maps.html", "jinja2", "need jinja2, which is not installed"),
        ("maps", "vl_convert", "need vl_convert, which is not installed"),
        ("file", None, "file: it is no folder"),
        ("file/maps", None, "file/maps: it is no folder"),
    ],
)
def test_maps_that_could_not_be_made_are_refused_before_anything_runs(
    specbench, monkeypatch, tmp_path, place, missing, message
):
    (tmp_path / "file").touch()
    if missing:
        monkeypatch.setitem(sys.modules, missing, None)
    option = "--html" if place.endswith("html") else "--charts"
    done = specbench("sweep", "speculative", "--over", "link.rtt_ms=0,5", option, tmp_path / place)
    assert done.code == (2 if missing else 5)
    assert message in done.err
    assert not (tmp_path / "runs").exists()


def test_a_damaged_sweep_gets_one_clear_error(tmp_path):
    store = RunStore(tmp_path)
    asked = sweeps.new_sweep(store, ("speculative",), "default", (), {"link.rtt_ms": [0, 5]})
    path = tmp_path / "sweeps" / f"{asked.sweep_id}.json"
    assert sweeps.read(store, asked.sweep_id) == asked
    sweeps.demand_same_profile(asked)
    for text in ("", "{}", path.read_text().replace('"schema_version": 1', '"schema_version": 7')):
        path.write_text(text)
        with pytest.raises(SpecbenchError, match=asked.sweep_id):
            sweeps.read(store, asked.sweep_id)


def test_conditions_are_all_combinations_and_each_is_a_profile():
    asked = sweeps.Sweep(
        "1", (), "default", (), {"link.rtt_ms": [0, 5], "speculative.draft_length": [1, 2]}, ""
    )
    assert len(asked.conditions) == 4
    assert load_profile("default", (), asked.conditions[3]).speculative.draft_length == 2
