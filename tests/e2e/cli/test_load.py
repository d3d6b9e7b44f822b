"""Many edges on one server, from the command line."""

import json
import os
import re
import subprocess
import sys

import pytest
from blocks import explained_method
from warm import WarmPopen

COMMON = ("load", "--edges", 3, "--requests", 6, "--set", "engine.kind=eager")


def rows_of(outcome):
    assert outcome.code == 0, outcome.err
    return {row["way"]: row for row in outcome.json["rows"]}


@pytest.fixture
def shared(profile, models):
    """A server whose passes three edges share, in float64, where the tiny models' near-ties are none."""
    batch = {"sessions": 3, "wait_ms": 20}
    return profile(
        edge={"model": str(models / "draft"), "dtype": "float64"},
        cloud={"model": str(models / "target"), "device": "cpu", "dtype": "float64", "batch": batch},
    )


def test_every_way_answers_the_same_requests_with_the_same_texts(specbench, shared):
    outcome = specbench(*COMMON, "--profile", shared, "--objective-tpot-ms", 1e6, "--json")
    rows = rows_of(outcome)
    assert list(rows) == ["speculative", "cloud_optimized_baseline", "speculative_colocated"]
    assert len({row["tokens"] for row in rows.values()}) == 1
    for row in rows.values():
        assert (row["edges"], row["requests"], row["within"]) == (3, 6, 3)
        assert (row["ties"], row["departed"]) == (0, 0)
        assert row["tokens_per_s"] == pytest.approx(row["tokens"] / row["seconds"])
        assert 0 < row["target_busy"] <= 1.05
    assert rows["cloud_optimized_baseline"]["accepted_per_target_s"] is None
    assert rows["cloud_optimized_baseline"]["texts_per_pass"] > 1
    found = outcome.json["capacity"]
    expected = 1 + found["draft_length"] * found["draft_ms"] / found["verify_ms"]
    assert found["predicted"] == pytest.approx(expected)
    ratio = rows["speculative"]["capacity"] / rows["speculative_colocated"]["capacity"]
    assert found["measured"] == pytest.approx(ratio)


@pytest.mark.slow
def test_edges_replay_the_drafts_of_a_trace(specbench, shared, tmp_path):
    trace = tmp_path / "trace.json"
    assert specbench("trace", "--profile", shared, "--out", trace).code == 0
    arguments = (*COMMON, "--profile", shared, "--objective-tpot-ms", 1e6)
    real = rows_of(specbench(*arguments, "--json"))["speculative"]
    outcome = specbench(*arguments, "--trace", trace, "--arrival", "poisson", "--rate", 50, "--json")
    replayed = rows_of(outcome)["speculative"]
    assert "replayed from trace.json" in outcome.json["drafts"]
    assert (replayed["tokens"], replayed["ties"], replayed["departed"]) == (real["tokens"], 0, 0)
    accepted = [row["accepted_per_target_s"] * row["target_s_per_1000"] for row in (real, replayed)]
    assert accepted[0] == pytest.approx(accepted[1])  # accepted tokens per thousand are the draft's, not time's
    short = specbench(*arguments, "--trace", trace, "--set", "workload.max_new_tokens=13")
    assert "the trace's texts have up to 12 tokens, but 13 are needed" in short.err


@pytest.mark.parametrize(
    "method", ["speculative_pipelined", "from_the_prompt", "cloud_baseline", "hybrid", "speculative_tree"]
)
def test_any_method_that_asks_a_server_is_driven_by_its_own_decoder(specbench, shared, tmp_path, method):
    (tmp_path / "from_the_prompt.py").write_text(explained_method())
    own = ("--plugin", tmp_path / "from_the_prompt.py") if method == "from_the_prompt" else ()
    outcome = specbench(
        "load", method, *COMMON[1:], *own, "--profile", shared, "--objective-tpot-ms", 1e6, "--json"
    )
    rows = rows_of(outcome)
    assert list(rows) == [method, "cloud_optimized_baseline", "speculative_colocated"]
    assert len({row["tokens"] for row in rows.values()}) == 1
    assert {(row["requests"], row["ties"], row["departed"]) for row in rows.values()} == {(6, 0, 0)}
    assert (outcome.json["capacity"] is not None) == (
        method in ("speculative_pipelined", "hybrid", "speculative_tree")
    )


def test_a_method_that_asks_no_server_is_refused(specbench, shared):
    outcome = specbench("load", "edge_baseline", *COMMON[1:], "--profile", shared)
    assert (outcome.code, "edge_baseline does not use the server" in outcome.err) == (2, True)


ELSEWHERE = {
    "another edge model": {"models": {"edge": {"files": {"config.json": "0" * 64}}}},
    "another cloud model": {"models": {"cloud": {"files": {"config.json": "0" * 64}}}},
    "other settings of decoding": {"profile": {"decoding": {"repetition_penalty": 1.5}}},
}


@pytest.mark.parametrize("what", ELSEWHERE)
def test_a_trace_of_another_pair_is_refused(specbench, shared, tmp_path, what):
    trace = tmp_path / "trace.json"
    assert specbench("trace", "--profile", shared, "--out", trace).code == 0
    made = json.loads(trace.read_text())
    for part, changes in ELSEWHERE[what].items():
        for name, values in changes.items():
            made[part][name] |= values
    trace.write_text(json.dumps(made))
    outcome = specbench(*COMMON, "--profile", shared, "--trace", trace)
    assert (outcome.code, f"the trace was made with {what}" in outcome.err) == (2, True)


def test_the_table_says_what_drafts_and_what_theory_predicts(specbench, shared):
    outcome = specbench(*COMMON, "--profile", shared)
    assert outcome.code == 0, outcome.err
    assert (
        "3 edges, asking again at once; server: eager engine, at most 3 sequences per pass; real drafts"
        in outcome.out
    )
    assert "capacity against co-located drafting: predicted 1 + " in outcome.out


@pytest.mark.slow
def test_the_objective_is_twice_what_a_lone_edge_gets(specbench, shared):
    outcome = specbench(*COMMON, "--profile", shared, "--json")
    said = re.search(r"a single edge without drafting takes (\S+) ms", outcome.err)
    assert outcome.json["objective_tpot_ms"] == pytest.approx(2 * float(said[1]), abs=0.1)


def test_answers_of_one_token_have_no_objective_and_are_refused_before_the_load(specbench, shared):
    refused = specbench(*COMMON, "--profile", shared, "--set", "workload.max_new_tokens=1")
    assert (refused.code, "no answer has a second token" in refused.err) == (2, True)
    assert "requests by" not in refused.err


def test_a_rate_belongs_to_random_arrivals(specbench, shared):
    outcome = specbench(*COMMON, "--profile", shared, "--rate", 3)
    assert (outcome.code, "--rate and --arrival poisson need each other" in outcome.err) == (2, True)
    assert specbench(*COMMON, "--profile", shared, "--arrival", "poisson").code == 2


def test_every_edge_asks_and_none_is_silent_for_so_long_that_a_server_hangs_up(specbench, shared):
    few = specbench("load", "--edges", 3, "--requests", 2, "--profile", shared)
    assert (few.code, "2 requests are too few for 3 edges" in few.err) == (2, True)
    seldom = specbench(*COMMON, "--profile", shared, "--arrival", "poisson", "--rate", 0.002)
    assert (seldom.code, seldom.out) == (2, "")
    assert "a server hangs up after 600 s" in seldom.err


@pytest.fixture
def serve(tmp_path):
    """Start `specbench serve` with a profile and more words; yields a function that returns its address."""
    running = []

    def start(path, *words):
        process = WarmPopen(
            [sys.executable, "-m", "specbench", "serve", "--profile", path, "--port", "0", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=(tmp_path / "served.log").open("ab"),
            text=True,
        )
        running.append(process)
        return process.stdout.readline().strip()

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_server_elsewhere_is_driven_as_it_shares_and_says_what_it_lacks(specbench, shared, serve):
    lacks, serves = serve(shared), serve(shared, "--draft", "--max-sessions", 5)
    words = (*COMMON, "--profile", shared, "--set")
    no_draft = specbench(*words, f"cloud.placement={lacks}")
    assert (no_draft.code, "specbench serve --draft" in no_draft.err) == (7, True), no_draft.err
    words = (*words, f"cloud.placement={serves}")
    rows = rows_of(specbench(*words, "--objective-tpot-ms", 1e6, "--json"))
    assert {(row["edges"], row["within"], row["departed"]) for row in rows.values()} == {(3, 3, 0)}
    full = specbench(*words, "--edges", 6)
    assert (full.code, "serves 5 edges already" in full.err) == (7, True), full.err
    other = specbench(*words, "--set", "cloud.batch.sessions=1")
    assert (other.code, "cloud.batch.sessions is 1 here, 3 there" in other.err) == (4, True)


@pytest.mark.slow
def test_the_edges_have_the_processors_of_the_profiles_edge(specbench_process, shared):
    cpu = min(os.sched_getaffinity(0))
    settings = ("--set", "cloud.placement=process", "--set", f"edge.cpus=[{cpu}]")
    outcome = specbench_process(*COMMON, "--profile", shared, *settings, "--json", is_started=True)
    assert outcome.code == 0, outcome.err
    assert outcome.json["edge_device"] == {"cpus": str(cpu)}


def test_a_server_refuses_to_share_passes_of_a_model_that_cannot(specbench, profile, tmp_path):
    from builders import tiny_mistral

    folder = tiny_mistral(tmp_path / "window", window=5)
    path = profile(cloud={"model": str(folder), "device": "cpu", "batch": {"sessions": 2}})
    outcome = specbench("serve", "--profile", path, "--port", 0)
    assert outcome.code == 4, outcome.err
    assert "cannot batch sequences" in outcome.err
    assert "only full attention can be exchanged" in outcome.err


@pytest.mark.slow
def test_by_a_rule_that_draws_texts_may_differ_and_none_is_judged(specbench, shared):
    drawing = ("--set", "decoding.temperature=1", "--set", "speculative.verification=rejection")
    outcome = specbench(*COMMON, "--profile", shared, *drawing, "--json")
    rows = rows_of(outcome)
    assert {(row["ties"], row["departed"]) for row in rows.values()} == {(None, None)}


@pytest.mark.slow
def test_a_load_over_which_an_edge_lost_the_cloud_is_no_measurement(specbench, shared, monkeypatch):
    from specbench.cloud import RemoteCloud

    monkeypatch.setattr(RemoteCloud, "interruptions", 1)
    outcome = specbench(*COMMON, "--profile", shared, "--objective-tpot-ms", 100)
    assert (outcome.code, outcome.out) == (7, "")
    assert "an edge lost the cloud during the requests by speculative_colocated" in outcome.err
