"""Acceptance by position that other tools measured: read, replayed, planned, and written for them."""

import json

import pytest
from replays import costs, trace

from specbench.errors import SpecbenchError
from specbench.forecast.acceptance_files import imported
from specbench.forecast.acceptance_trace import write_trace
from specbench.profile.cost_table import write_costs

PROFILE = {
    "schema_version": "1.0", "measured": True, "method": "eagle3", "num_speculative_tokens": 3,
    "verification_method": "longest_prefix", "conditional_accept_rates": [0.6, 0.5, 0.0],
    "marginal_accept_rates": [0.6, 0.3, 0.0], "mean_accept_length": 1.9,
}  # fmt: skip
BENCHMARK = {"request_throughput": 1.5, "spec_decode_per_position_acceptance_rates": [0.8, 0.4, 0.1]}
METRICS = """\
# HELP vllm:spec_decode_num_drafts_total Number of spec decoding drafts.
# TYPE vllm:spec_decode_num_drafts_total counter
vllm:spec_decode_num_drafts_total{engine="0",model_name="m"} 60.0
vllm:spec_decode_num_drafts_total{engine="1",model_name="m"} 40.0
vllm:spec_decode_num_drafts_created{engine="0",model_name="m"} 1.7e+09
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="m",position="0"} 50.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="1",model_name="m",position="0"} 30.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="m",position="1"} 20.0
"""


def written(folder, content):
    path = folder / "found"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("content", "conditional", "source"),
    [
        (PROFILE, (0.6, 0.5, 0.0), "a speculation profile"),
        (BENCHMARK, (0.8, 0.5, 0.25), "vllm bench serve"),
        (METRICS, (0.8, 0.25), "vLLM's counters"),
    ],
)
def test_three_formats_are_read_as_conditional_acceptance(tmp_path, content, conditional, source):
    found = imported(written(tmp_path, content))
    assert found.survival.conditional == pytest.approx(conditional)
    assert found.label == f"acceptance by position of {source} (found), assumed independent between rounds"


def test_a_file_of_another_kind_is_none_of_them(tmp_path):
    write_trace(tmp_path / "t.json", trace())
    assert imported(tmp_path / "t.json") is None
    assert imported(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({**PROFILE, "measured": False}, "nothing was measured"),
        ({**PROFILE, "verification_method": "block"}, "verification_method block"),
        ({**PROFILE, "marginal_accept_rates": [0.6, 0.5, 0.0]}, "contradict each other"),
        ({**PROFILE, "marginal_accept_rates": [0.6]}, "contradict each other"),
        ({**PROFILE, "conditional_accept_rates": [0.6, 1.5, 0]}, "not a number between 0 and 1"),
        ({**PROFILE, "conditional_accept_rates": ["0.6"]}, "not a number between 0 and 1"),
        ({**PROFILE, "conditional_accept_rates": [], "marginal_accept_rates": []}, "0 positions"),
        ({**PROFILE, "conditional_accept_rates": None}, "None is no list"),
        ([PROFILE], "no JSON object"),
        ({"spec_decode_per_position_acceptance_rates": [0.4, 0.8]}, "accepted more often than one before it"),
        (json.dumps(BENCHMARK)[:-1], "cannot be used"),
        (METRICS.replace(" 60.0", " 0").replace(" 40.0", " 0"), "nothing was drafted"),
        (METRICS.replace('position="0"', 'position="900"'), "without a position below 64"),
        (METRICS.replace(" 60.0", " many"), "cannot be used"),
    ],
)
def test_a_damaged_file_is_refused_by_its_fault(tmp_path, content, reason):
    with pytest.raises(SpecbenchError, match=reason) as caught:
        imported(written(tmp_path, content))
    assert "found" in caught.value.message


def test_a_replay_over_a_profile_accepts_by_its_chances_and_says_what_they_are(specbench, tmp_path):
    write_costs(tmp_path / "c.yaml", costs())
    path = written(tmp_path, BENCHMARK)
    over = ("--over", "draft_length=3", "--over", "window=1,4", "--method", "speculative")
    done = specbench("replay", path, "--costs", tmp_path / "c.yaml", *over, "--json")
    assert done.code == 0, done.err
    alone = next(row for row in done.json["rows"] if row["method"] == "speculative")
    assert alone["acceptance_length"] == pytest.approx(1 + 0.8 + 0.4 + 0.1, rel=0.03)
    assert done.json["exact"] is False
    assert "assumed independent between rounds" in done.json["assumed"][0]["text"]
    shown = " ".join(specbench("replay", path, "--costs", tmp_path / "c.yaml", *over).out.split())
    assert "drawn texts, acceptance by position of vllm bench serve (found), assumed independent" in shown


@pytest.mark.parametrize("extra", [("--oracle",), ("--over", "agreement=0.5"), ("--over", "gate.entropy=0.5")])
def test_a_replay_over_a_profile_refuses_what_needs_texts(specbench, tmp_path, extra):
    write_costs(tmp_path / "c.yaml", costs())
    done = specbench("replay", written(tmp_path, METRICS), "--costs", tmp_path / "c.yaml", *extra)
    assert done.code == 2
    assert "needs a trace" in done.err


def test_a_plan_from_a_file_is_the_plan_from_its_numbers_and_says_so(specbench, tmp_path):
    path = written(tmp_path, PROFILE)
    for more in ((), ("--over", "link.rtt_ms=0,20")):
        by_file = specbench("plan", "--acceptance", path, "--json", "--method", "speculative", *more)
        by_hand = specbench("plan", "--acceptance", "0.6,0.5,0.0", "--json", "--method", "speculative", *more)
        assert by_file.code == 0, by_file.err
        for key in by_hand.json.keys() - {"assumed", "exact"}:
            assert by_file.json[key] == by_hand.json[key]
        assert by_file.json["exact"] is False
        assert [each["key"] for each in by_file.json["assumed"]].count("acceptance") == 1
        shown = " ".join(specbench("plan", "--acceptance", path, "--method", "speculative", *more).out.split())
        assert "acceptance by position of a speculation profile (found), assumed independent" in shown


def test_a_trace_is_written_for_other_simulators_and_read_again(specbench, tmp_path):
    write_trace(tmp_path / "t.json", trace(count=40))
    out = tmp_path / "speculation_profile.json"
    done = specbench("plan", "--trace", tmp_path / "t.json", "--acceptance-out", out, "--json")
    assert done.code == 0, done.err
    document = json.loads(out.read_text())
    count = document["num_speculative_tokens"]
    assert document["measured"] is True
    assert document["conditional_accept_rates"] == pytest.approx(done.json["conditional_acceptance"], abs=1e-6)
    assert len(document["marginal_accept_rates"]) == count
    assert document["mean_accept_length"] == pytest.approx(1 + sum(document["marginal_accept_rates"]), abs=1e-4)
    again = specbench("plan", "--acceptance", out, "--acceptance-out", tmp_path / "again.json", "--json")
    assert again.code == 0, again.err
    assert again.json["conditional_acceptance"] == pytest.approx(done.json["conditional_acceptance"], abs=1e-6)


def test_numbers_by_hand_are_not_written_as_measured(specbench, tmp_path):
    done = specbench("plan", "--acceptance", "0.8", "--acceptance-out", tmp_path / "p.json")
    assert done.code == 2
    assert "given or synthetic" in done.err
    assert not (tmp_path / "p.json").exists()
