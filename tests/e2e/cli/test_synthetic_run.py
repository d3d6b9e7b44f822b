"""A run with synthetic acceptance says so wherever its figures stand."""

import json

import pytest

SYNTHETIC = ("--set", "speculative.synthetic_acceptance=[0.9, 0.5]")
TOLD = "synthetic acceptance 0.9/0.5"


@pytest.fixture
def measured(specbench, profile):
    """The run's id, and its comparison as JSON."""
    path = profile()
    done = specbench("run", "speculative", "--profile", path, *SYNTHETIC, "--json")
    assert done.code == 0, done.err
    return path, done.json["runs"][0], done.json


def test_table_and_json_say_that_chance_accepted_the_drafts(specbench, measured, tmp_path):
    _, run_id, found = measured
    control, row = found["methods"]["cloud_optimized_baseline"], found["methods"]["speculative"]
    assert (row["verification"], row["lossless"], row["exact_match"], row["agreement"]) == (
        "synthetic", False, None, None,
    )  # fmt: skip
    assert (row["verdict"], row["statement"]) == (
        None,
        "no verdict on speculative: its acceptance is synthetic, so "
        "its times are measured and its text means nothing",
    )
    assert row["label"] == "synthetic, the text means nothing"
    assert control["lossless"] is True
    assert TOLD in found["setting"]
    assert any(
        f"run {run_id} has {TOLD}: drafted tokens were accepted by chance" in note for note in found["notes"]
    )
    shown = " ".join(specbench("compare", run_id).out.split())
    assert (
        shown.count("No verdict: acceptance is synthetic, so times are measured and texts mean nothing.") == 2
    )
    assert TOLD in shown
    assert "lossless" not in shown.partition("note:")[0]
    lines = (tmp_path / "runs" / run_id / "generations.jsonl").read_text().splitlines()
    assert {json.loads(line)["verification"] for line in lines} == {None, "synthetic"}


def test_the_report_says_so(specbench, measured, tmp_path):
    for name in ("page.html", "page.md"):
        assert specbench("report", measured[1], "--out", tmp_path / name).code == 0
        text = (tmp_path / name).read_text()
        assert TOLD in text
        assert "acceptance is synthetic" in text
        assert "no verdict on speculative: its acceptance is synthetic" in text
        assert "synthetic: means nothing" in text


def test_it_is_not_compared_with_a_real_run_without_saying_so(specbench, measured):
    path, run_id, _ = measured
    real = specbench("run", "speculative", "--profile", path, "--json").json["runs"][0]
    refused = specbench("compare", run_id, real)
    assert refused.code == 8
    assert "not comparable: speculative.synthetic_acceptance is [0.9, 0.5] and None" in " ".join(
        refused.err.split()
    )
    shown = specbench("compare", run_id, real, "--allow-unfair", "--json").json
    assert all(row["label"].startswith("UNFAIR") for row in shown["methods"].values())
    other = specbench(
        "run", "speculative", "--profile", path, "--set", "speculative.synthetic_acceptance=0.5", "--json"
    )
    both = specbench("compare", run_id, other.json["runs"][0])
    assert both.code == 0, both.err
    assert "synthetic acceptance 0.5" in " ".join(both.out.split())


def test_a_plan_from_such_a_run_says_so_and_exports_nothing(specbench, measured, tmp_path):
    done = specbench("plan", "--run", measured[1], "--json")
    assert done.code == 0, done.err
    assert done.json["exact"] is False
    assert TOLD in next(each["text"] for each in done.json["assumed"] if each["key"] == "acceptance")
    refused = specbench("plan", "--run", measured[1], "--acceptance-out", tmp_path / "p.json")
    assert refused.code == 2
    assert "measured" in refused.err


def test_no_trace_is_made_of_it(specbench, profile, tmp_path):
    done = specbench("trace", "--profile", profile(), "--out", tmp_path / "t.json", *SYNTHETIC)
    assert done.code == 2
    assert "synthetic acceptance, which does not look at the draft" in done.err


def test_a_sweep_over_it_names_it_in_its_title(specbench, profile):
    over = ("--over", "speculative.synthetic_acceptance=null,0.9")
    done = specbench("sweep", "speculative", "--profile", profile(), *over)
    assert done.code == 0, done.err
    assert "synthetic acceptance 0.9" in " ".join(done.out.split())
