"""Sweeps: a stored run a condition, what was stopped goes on, and a map of where each method wins."""

import json
import sys
from dataclasses import replace

import pytest
from builders import CRASHING, LIAR

from specbench.benchmark import sweep_record as sweeps
from specbench.errors import SpecbenchError
from specbench.profile import load_profile
from specbench.results.store import RunStore

KILL = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
CRASH = 'raise MemoryError("no room") if False else ValueError("lost my way")'
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


def test_a_sweep_goes_on_from_any_folder_with_the_profile_that_it_began_with(
    specbench, small, models, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    small.write_text(small.read_text().replace(str(models), "./models"))
    (tmp_path / "models").symlink_to(models)
    (tmp_path / "later").mkdir()
    over = ("--over", "speculative.draft_length=1,2", "--over", "edge.model=models/draft")
    done = specbench("sweep", "speculative", "--profile", small.name, *over, "--json")
    assert done.code == 0, done.err
    sweep_id, store = done.json["sweep"], RunStore(tmp_path / "runs")
    asked = sweeps.read(store, sweep_id)
    sweeps.write(store, replace(asked, finished=(0,), runs={0: asked.runs[0]}))
    small.write_text(small.read_text().replace("max_new_tokens: 6", "max_new_tokens: 7"))
    monkeypatch.chdir(tmp_path / "later")
    again = specbench("sweep", "--resume", sweep_id, "--json")
    assert again.code == 0, again.err
    profiles = [store.read(run_id).manifest.profile for run_id in again.json["runs"].values()]
    assert [each["workload"]["max_new_tokens"] for each in profiles] == [6, 6]
    assert {each["edge"]["model"] for each in profiles} == {str(tmp_path / "models" / "draft")}


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
    assert f"2 of 3 conditions failed; the reasons are above: edge.model={names[0]}; edge" in done.err
    assert "condition 3 of 3" in done.err
    assert [row["condition"]["edge.model"] for row in done.json["rows"]] == [str(names[1])] * 2
    hint = f"sweep --resume {done.json['sweep']}"
    assert hint in done.err

    (tmp_path / "later").symlink_to(models / "draft")
    again = specbench(*hint.split(), "--json")
    assert again.code == 4
    assert "1 of 3 conditions failed" in again.err
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


def test_a_condition_whose_process_is_killed_is_not_finished_and_goes_on(specbench, profile, tmp_path):
    plugin = tmp_path / "killed.py"
    plugin.write_text(CRASHING.format(memory=False).replace(CRASH, KILL))
    assert KILL in plugin.read_text()
    path = profile(workload={"limit": 2, "max_new_tokens": 6, "warmup": 0})
    words = ("--profile", path, "--plugin", plugin, "--over", "workload.seed=3", "--json")
    done = specbench("sweep", "crashing", *words)
    assert done.code == 7, done.err
    assert "ended with exit status 137" in done.err
    (file,) = (tmp_path / "runs" / "sweeps").glob("*.json")
    asked = json.loads(file.read_text())
    assert (asked["finished"], list(asked["runs"])) == ([], ["0"])
    plugin.write_text(plugin.read_text().replace(KILL, "pass"))
    again = specbench("sweep", "--resume", file.stem)
    assert again.code == 5, again.err
    assert "source of crashing was killed.py file" in again.err


def test_a_sweep_of_a_method_that_lies_exits_9_and_so_does_resuming_it(specbench, profile, tmp_path):
    plugin = tmp_path / "liar.py"
    plugin.write_text(LIAR.replace("{drafted}", "4"))
    path = profile(workload={"limit": 1, "max_new_tokens": 6, "warmup": 0})
    words = ("sweep", "liar", "--profile", path, "--plugin", plugin, "--over", "workload.seed=3", "--json")
    done = specbench(*words)
    assert done.code == 9, done.err
    assert "the condition workload.seed=3 ended with exit status 9" in done.err
    (row,) = [row for row in done.json["rows"] if row["method"] == "liar"]
    assert row["lossless"] is None
    assert row["bugs"] > 0
    assert specbench("sweep", "--resume", done.json["sweep"]).code == 9


def test_a_sweep_over_a_trace_is_a_replay(specbench, tmp_path):
    from replays import costs, trace

    from specbench.forecast.acceptance_trace import write_trace
    from specbench.profile.cost_table import write_costs

    write_trace(tmp_path / "t.json", trace())
    write_costs(tmp_path / "c.yaml", costs())
    place = (tmp_path / "t.json", "--costs", tmp_path / "c.yaml", "--over", "link.rtt_ms=0,9", "--json")
    swept, replayed = specbench("sweep", "--replay", *place), specbench("replay", *place)
    assert swept.code == 0, swept.err
    assert swept.json == replayed.json


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speculative"], "and one --over"),
        (["--over", "link.rtt_ms=1"], "needs at least one method"),
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
        ("file", None, "file: it is not a folder"),
        ("file/maps", None, "file/maps: it is not a folder"),
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--charts", "maps", "--methods", "suffix"), "no method 'suffix' in this sweep"),
        (("--charts", "maps", "--chart-width-mm", "8"), "is not between 60 and 400"),
        (("--chart-width-mm", "84"), "has no effect without --charts"),
    ],
)
def test_charts_that_are_not_asked_for_correctly_are_refused_before_anything_runs(
    specbench, tmp_path, words, message
):
    done = specbench("sweep", "speculative", "--over", "link.rtt_ms=0,5", *words)
    assert (done.code, message in done.err) == (2, True)
    assert not (tmp_path / "runs").exists()


def test_a_damaged_sweep_gets_one_clear_error(tmp_path):
    store = RunStore(tmp_path)
    asked = sweeps.new_sweep(
        store, ["speculative"], load_profile("default"), "default", {"link.rtt_ms": [0, 5]}
    )
    path = tmp_path / "sweeps" / f"{asked.sweep_id}.json"
    assert sweeps.read(store, asked.sweep_id) == asked
    for text in ("", "{}", path.read_text().replace('"schema_version": 2', '"schema_version": 7')):
        path.write_text(text)
        with pytest.raises(SpecbenchError, match=asked.sweep_id):
            sweeps.read(store, asked.sweep_id)


def test_conditions_are_all_combinations_and_each_is_a_profile():
    asked = sweeps.Sweep(
        "1", (), "default", (), {"link.rtt_ms": [0, 5], "speculative.draft_length": [1, 2]}, {}
    )
    assert len(asked.conditions) == 4
    assert load_profile("default", (), asked.conditions[3]).speculative.draft_length == 2
