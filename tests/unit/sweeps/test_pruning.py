"""Candidates of a tuning that a replay leaves out, and when it may not."""

import json
from dataclasses import replace

import pytest
from replays import TABLE, trace

from specbench.errors import SpecbenchError
from specbench.forecast.acceptance_trace import write_trace
from specbench.forecast.replay import known_method
from specbench.profile import load_profile
from specbench.profile.loading import with_changes
from specbench.profile.yaml_text import as_page
from specbench.sweeps.pruning import IN_FLIGHT, LENGTH, predicted

SPECULATIVE = known_method("speculative")


@pytest.fixture
def asked(profile, tmp_path):
    """Predict candidates by a trace of the profile on other prompts; fields and settings may be others."""
    made = load_profile(str(profile()))
    rows = [{"question_id": n, "category": "c", "turns": [f"what is {n}?"]} for n in range(3)]
    (tmp_path / "others.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    traced = with_changes(made, settings={"workload.prompts": str(tmp_path / "others.jsonl")})
    costs = tmp_path / "costs.yaml"
    costs.write_text(as_page(TABLE))

    def predict(settings, changes=(), **fields):
        path = tmp_path / "trace.json"
        write_trace(path, replace(trace(), **{"profile": traced.model_dump(mode="json"), **fields}))
        return predicted(path, costs, with_changes(made, settings=dict(changes)), SPECULATIVE, settings)

    return predict


def test_a_candidate_is_predicted_with_the_link_of_the_profile(asked):
    lengths = [{LENGTH: length} for length in (1, 4, 32)]
    near, far = asked(lengths, {"link.rtt_ms": 1}), asked(lengths, {"link.rtt_ms": 60})
    assert len(near) == 3
    assert near[1] > max(near[0], near[2])
    assert all(there < here for there, here in zip(far, near, strict=True))


def test_windows_are_told_apart(asked):
    one, two = asked([{LENGTH: 2, IN_FLIGHT: 1}, {LENGTH: 2, IN_FLIGHT: 2}], {"link.rtt_ms": 40})
    assert one != two


@pytest.mark.parametrize(
    ("settings", "changes", "fields", "reason"),
    [
        ({LENGTH: 1, "speculative.confidence_stop": 0.5}, {}, {}, "nothing of speculative.confidence_stop"),
        ({LENGTH: 1}, {}, {"exact": False}, "is approximate"),
        ({LENGTH: 1}, {"edge.dtype": "bfloat16", "precision.parity": "off"}, {}, "edge.dtype float32"),
    ],
)  # fmt: skip
def test_what_a_trace_does_not_know_is_refused(asked, settings, changes, fields, reason):
    with pytest.raises(SpecbenchError, match=reason):
        asked([settings], changes, **fields)


def test_a_trace_of_a_prompt_that_a_run_asks_is_refused_whatever_its_id(asked, profile, tmp_path):
    row = {"question_id": 0, "category": "c", "turns": ["what  is 12 + 30?"]}
    (tmp_path / "copied.jsonl").write_text(json.dumps(row))
    copied = load_profile(str(profile(workload={"prompts": str(tmp_path / "copied.jsonl")})))
    with pytest.raises(SpecbenchError, match=r"prompt 0 of .*trace\.json is also in the measurement \(2\)"):
        asked([{LENGTH: 1}], profile=copied.model_dump(mode="json"))
