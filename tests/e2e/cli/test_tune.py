"""`specbench tune`: candidates interleaved on held-out prompts, and a profile that says what was chosen."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until
from warm import WarmPopen

from specbench.profile import load_profile
from specbench.results.store import RunStore

OVER = ("--over", "speculative.draft_length=1,3")


@pytest.fixture
def small(profile, tmp_path):
    """A profile whose run asks two of eight prompts; the answers are long enough to draft."""
    path = profile(workload={"limit": 2, "max_new_tokens": 8, "warmup": 0})
    rows = [{"question_id": n, "category": "sums", "turns": [f"what is {n} + 3?"]} for n in range(1, 9)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_best_candidate_becomes_a_profile_that_extends_the_one_it_tuned(specbench, small, tmp_path):
    out = tmp_path / "elsewhere" / "tuned.yaml"
    out.parent.mkdir()
    done = specbench(
        "tune", "speculative", "--profile", small, *OVER, "--set", "link.rtt_ms=1", "--out", out, "--json"
    )
    assert done.code == 0, done.err
    found = done.json
    lengths = [each["settings"]["speculative.draft_length"] for each in found["candidates"]]
    assert (lengths, found["own"]) == ([4, 1, 3], {"speculative.draft_length": 4})
    best = max(found["candidates"], key=lambda each: each["speedup"])
    assert found["chosen"] == best["settings"]
    written = load_profile(str(out))
    assert written.speculative.draft_length == best["settings"]["speculative.draft_length"]
    assert written.link.rtt_ms == 1
    assert written.cloud == load_profile(str(small)).cloud
    assert written.workload.limit == 2
    assert "report figures on others" in out.read_text()


def test_candidates_and_the_control_share_a_run_on_prompts_that_are_not_reported(specbench, small, tmp_path):
    done = specbench("tune", "--profile", small, *OVER, "--out", tmp_path / "tuned.yaml")
    assert done.code == 0, done.err
    assert "chosen" in done.out
    assert "report others" in " ".join(done.out.split())
    store = RunStore(tmp_path / "runs")
    tuned = store.read(store.ids()[-1]).manifest
    assert set(tuned.methods) == {
        "cloud_optimized_baseline",
        *(f"speculative[draft_length={length}]" for length in (4, 1, 3)),
    }
    assert not tuned.divergences
    reported = specbench("run", "speculative", "--profile", tmp_path / "tuned.yaml")
    assert reported.code == 0, reported.err
    assert set(store.read(store.ids()[-1]).manifest.prompt_ids).isdisjoint(tuned.prompt_ids)


def test_threads_are_measured_in_processes_and_stay_where_no_other_number_is_shown_to_be_faster(
    specbench, small, tmp_path
):
    out = tmp_path / "tuned.yaml"
    done = specbench("tune", "--profile", small, "--over", "edge.threads=1", *OVER, "--out", out, "--json")
    assert done.code == 0, done.err
    threads = [each for each in done.json["candidates"] if "edge.threads" in each["settings"]]
    assert [each["settings"]["edge.threads"] for each in threads] == [None, 1]
    assert len(done.json["run_ids"]) == 5
    assert load_profile(str(out)).edge.threads is None


def test_a_replay_leaves_out_what_it_shows_to_be_slow(specbench, small, tmp_path):
    others = tmp_path / "others.jsonl"
    others.write_text(json.dumps({"question_id": 1, "category": "sums", "turns": ["what is 9 + 9?"]}))
    traced = ("trace", "--profile", small, "--set", f"workload.prompts={others}")
    assert specbench(*traced, "--out", tmp_path / "trace.json").code == 0
    costs = tmp_path / "costs.yaml"
    costs.write_text("draft: {step_ms: 10}\ntarget: {verify_ms: {1: 10, 9: 10}}\n")
    done = specbench(
        "tune", "--profile", small, "--over", "speculative.draft_length=1,16",
        "--trace", tmp_path / "trace.json", "--costs", costs, "--out", tmp_path / "tuned.yaml", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    by_length = {each["settings"]["speculative.draft_length"]: each for each in done.json["candidates"]}
    assert "left out" in by_length[16]["fault"]
    assert by_length[16]["predicted"] < by_length[1]["predicted"]
    assert by_length[16]["tpot_ms"] is None


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--over", "link.rtt_ms=0,20"], "link.rtt_ms cannot be tuned"),
        (["--over", "speculative.draft_length=0"], "speculative.draft_length"),
        (["--set", "workload.limit=null"], "asks all"),
        (["--trace", "trace.json"], "--trace and --costs go together"),
        (["--on", "missing.jsonl"], "missing.jsonl cannot be read"),
        (["--set", "speculative.synthetic_acceptance=0.8"], "nothing can be tuned with speculative.synthetic"),
    ],
)
def test_what_cannot_be_tuned_is_said_before_anything_runs(specbench, small, tmp_path, words, reason):
    done = specbench("tune", "--profile", small, *words, "--out", tmp_path / "tuned.yaml")
    assert done.code != 0
    assert reason in done.err
    assert not (tmp_path / "tuned.yaml").exists()


def test_a_method_that_does_not_draft_has_nothing_to_tune(specbench, small, tmp_path):
    done = specbench("tune", "edge_baseline", "--profile", small, *OVER, "--out", tmp_path / "tuned.yaml")
    assert (done.code, "edge_baseline does not draft" in done.err) == (2, True)


def test_a_file_of_prompts_that_are_reported_is_refused(specbench, small, tmp_path):
    shared = tmp_path / "shared.jsonl"
    first = Path(load_profile(str(small)).workload.prompts).read_text().splitlines()[0]
    shared.write_text(json.dumps({**json.loads(first), "question_id": "copy"}) + "\n")
    done = specbench("tune", "--profile", small, "--on", shared, "--out", tmp_path / "tuned.yaml")
    assert (done.code, "is also in the measurement" in done.err) == (2, True)


def test_ctrl_c_keeps_what_was_measured_and_says_where_it_is(specbench, small, tmp_path):
    many = [{"question_id": n, "category": "c", "turns": [f"and {n}?"]} for n in range(400)]
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in many))
    runs = tmp_path / "runs"
    words = [
        *OVER,
        "--on",
        tmp_path / "many.jsonl",
        "--limit",
        400,
        "--out",
        tmp_path / "o.yaml",
        "--runs-dir",
        runs,
    ]
    began = WarmPopen(
        [sys.executable, "-m", "specbench", "tune", "--profile", *map(str, (small, *words))],
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: any(path.stat().st_size for path in runs.glob("*/generations.jsonl")))
    began.send_signal(signal.SIGINT)
    _, said = began.communicate(timeout=300)
    assert began.returncode == 130, said
    (run_id,) = RunStore(runs).ids()
    assert f"what was measured is stored: show it with 'specbench compare {run_id}'" in said
    assert 0 < len(RunStore(runs).read(run_id).generations) < 1600
    shown = specbench("compare", run_id)
    assert (shown.code, "draft_length=3" in shown.out) == (0, True), shown.err
