"""Tuning on other prompts, runs that are not comparable, and tables that fit a terminal."""

import json
import re

import pytest
from stores import stored

from specbench.benchmark.tuning import DRAFT_LENGTHS
from specbench.profile import load_profile
from specbench.results.store import RunStore


def write_prompts(path, turns, **fields):
    rows = [{"question_id": n, "category": "other", "turns": [turn], **fields} for n, turn in enumerate(turns)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_draft_length_is_tuned_on_one_category_and_reported_on_the_others(specbench, profile, tmp_path):
    done = specbench("run", "speculative", "--profile", profile(), "--tune-on", "talk", "--json")
    assert done.code == 0, done.err
    report = stored(tmp_path)
    tuning = report.manifest.tuning
    assert report.manifest.prompt_ids == ("2", "4")
    assert tuning.prompt_ids == ("1", "3")
    assert {record.category for record in report.generations} == {"sums"}
    assert set(tuning.tpot_ms) == set(map(str, DRAFT_LENGTHS))
    assert tuning.chosen == int(min(tuning.tpot_ms, key=tuning.tpot_ms.get))
    assert report.manifest.profile["speculative"]["draft_length"] == tuning.chosen
    assert any("was chosen for speculative on 2 prompts of talk" in note for note in done.json["notes"])
    measured = stored(tmp_path, tuning.run_id)
    assert set(measured.manifest.prompt_ids) == {"1", "3"}
    longest = {
        length: max(
            part.drafted or 0
            for record in measured.generations
            if record.method == f"speculative[{length}]"
            for part in record.rounds
        )
        for length in DRAFT_LENGTHS
    }
    assert longest == {length: length for length in DRAFT_LENGTHS}
    order = [record.method for record in measured.generations if record.prompt_id == "3"]
    assert len(order) == len(DRAFT_LENGTHS)


def test_a_length_that_is_chosen_round_by_round_cannot_be_tuned(specbench, profile):
    done = specbench(
        "run", "speculative", "--profile", profile(speculative={"draft_length": "auto"}), "--tune-on", "talk"
    )
    assert done.code == 2
    assert "auto already chooses the draft length, so --tune-on cannot" in done.err


def test_a_draft_length_is_tuned_on_a_file_that_shares_no_prompt_with_the_report(specbench, profile, tmp_path):
    others = write_prompts(tmp_path / "others.jsonl", ["count to ten", "name a colour"])
    done = specbench("run", "speculative", "--profile", profile(), "--tune-on", others)
    assert done.code == 0, done.err
    assert stored(tmp_path).manifest.prompt_ids == ("1", "2", "3")
    shared = write_prompts(tmp_path / "shared.jsonl", ["count to ten", "tell  me a story "])
    before = RunStore(tmp_path / "runs").ids()
    done = specbench("run", "speculative", "--profile", profile(), "--tune-on", shared)
    assert done.code == 2
    assert "prompt 1 of" in done.err
    assert "also in the measurement (3)" in done.err
    assert RunStore(tmp_path / "runs").ids() == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["speculative", "--tune-on", "tlk"], 2, "did you mean 'talk'?"),
        (["edge_baseline", "--tune-on", "talk"], 2, "edge_baseline does not draft"),
        (["speculative", "--tune-on", "talk", "--max-new-tokens", "1"], 2, "--max-new-tokens"),
        (
            ["speculative", "--tune-on", "talk", "--set", "speculative.synthetic_acceptance=0.8"],
            2,
            "chance accepts",
        ),
    ],
)
def test_tuning_that_makes_no_sense_is_one_error(specbench, profile, arguments, code, message):
    done = specbench("run", *arguments, "--profile", profile())
    assert done.code == code, done.err
    assert message in done.err


def test_a_tuned_run_is_resumed_without_tuning_again(specbench, profile, tmp_path):
    command = ["run", "speculative", "--profile", profile(), "--tune-on", "talk"]
    specbench(*command)
    whole = stored(tmp_path)
    file = tmp_path / "runs" / whole.manifest.run_id / "generations.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2]))
    runs = RunStore(tmp_path / "runs").ids()
    done = specbench(*command, "--resume", whole.manifest.run_id)
    assert done.code == 0, done.err
    assert RunStore(tmp_path / "runs").ids() == runs
    assert len(stored(tmp_path).generations) == len(whole.generations)
    done = specbench(*command[:-1], "sums", "--resume", whole.manifest.run_id)
    assert (done.code, "was tuned on talk, not on sums" in done.err) == (5, True)


def test_repeats_are_asked_and_paired(specbench, profile, tmp_path):
    done = specbench("run", "speculative", "--profile", profile(), "--repeats", 2, "--json")
    assert done.json["methods"]["speculative"]["generations"] == 2 * 4
    records = stored(tmp_path).generations
    assert {record.repeat for record in records} == {0, 1}
    longer = {record.prompt_id for record in records if record.tpot_ms}
    assert done.json["methods"]["speculative"]["paired_prompts"] == len(longer), "prompts, not generations"


def test_every_stored_line_is_labelled(specbench, profile, tmp_path):
    specbench("run", "speculative", "edge_baseline", "--profile", profile())
    records = stored(tmp_path).generations
    lossless = {(record.method, record.lossless) for record in records}
    assert lossless == {("speculative", True), ("cloud_optimized_baseline", True), ("edge_baseline", None)}
    for record in records:
        assert record.verification == ("greedy" if record.drafted else None)
    assert any(record.verification for record in records)


def test_quality_is_measured_where_the_prompts_have_references(specbench, profile, tmp_path):
    prompts = write_prompts(tmp_path / "known.jsonl", ["say hi", "say yes"], reference=["hi"])
    done = specbench("run", "edge_baseline", "--profile", profile(), "--prompts", prompts, "--json")
    found = done.json["methods"]["edge_baseline"]["agreement"]
    assert 0 <= found["reference_chrf"] <= 100
    assert 0 <= found["control_reference_chrf"] <= 100
    assert 0 <= found["chrf"] <= 100
    assert done.json["methods"]["cloud_optimized_baseline"]["agreement"] is None


def test_unfair_runs_are_shown_on_demand_with_a_label_on_every_row(specbench, profile, tmp_path):
    path = profile()
    for budget in (4, 5):
        specbench("run", "speculative", "--profile", path, "--max-new-tokens", budget)
    ids = RunStore(tmp_path / "runs").ids()
    assert specbench("compare", *ids).code == 8
    shown = specbench("compare", *ids, "--allow-unfair")
    assert shown.code == 0
    document = specbench("compare", *ids, "--allow-unfair", "--json").json
    assert all(row["label"].startswith("UNFAIR") for row in document["methods"].values())
    assert document["unfair"] == [f"workload.max_new_tokens is 4 in run {ids[0]} and 5 in run {ids[1]}"]
    assert shown.out.count("UNFAIR") > len(document["methods"])
    assert shown.out.startswith("No verdict: the runs are not comparable.")


def test_the_verdict_comes_first_and_last_and_another_text_is_never_called_faster(
    specbench, profile, tmp_path, monkeypatch
):
    monkeypatch.setattr("specbench.render.console.out.width", 80)
    prompts = write_prompts(tmp_path / "dozen.jsonl", [f"what is {n} + {n}?" for n in range(13)])
    path = profile(workload={"prompts": str(prompts), "limit": None})
    methods = ["edge_baseline", "cloud_baseline", "speculative"]
    done = specbench("run", *methods, "--profile", path)
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert re.search(r"\d\.\d\dx \(\d\.\d\d to \d\.\d\d\)", lines[0])
    assert lines[-1] == lines[0]
    assert lines[[line.startswith("not the target's text:") for line in lines].index(True) + 1].startswith(
        "edge_baseline"
    )
    (row,) = [line for line in lines if line.startswith("edge_baseline")]
    assert row.rstrip().endswith("other model")
    assert "…" not in done.out, "nothing is cut off"
    details = specbench("compare", "latest", "--details").out
    assert "no verdict on edge_baseline: its text is not the cloud's" in " ".join(details.split())
    for label in ("greedy, lossless", "not the cloud's text"):
        assert label in details
    run_id = stored(tmp_path).manifest.run_id
    both = specbench("compare", run_id, run_id)
    assert both.out == specbench("compare", run_id).out, "a run is compared with itself once"


def test_the_standard_profile_is_for_figures_to_publish():
    workload = load_profile("standard").workload
    assert (workload.limit, workload.max_new_tokens, workload.repeats) == (None, 256, 3)
