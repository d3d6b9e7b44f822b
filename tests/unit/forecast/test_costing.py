"""Measured cost tables: what is in them, and that a fit finds the costs that it was given."""

import pytest

from specbench.forecast import cost_measurement
from specbench.profile import load_profile
from specbench.profile.cost_table import Costs, read_costs


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    from specbench.engine import bandwidth

    monkeypatch.setattr(cost_measurement, "REPEATS", 2)
    monkeypatch.setattr(bandwidth, "READ_BYTES", 1 << 24)


def test_a_fit_finds_the_costs_of_a_step_and_of_reading_one_token_more():
    samples = {("round", 0, 0): [0.5], ("verify", 1, 0): [20.0, 30.0, 22.0], ("verify", 5, 0): [25.0]}
    samples |= {("draft prefill", 16, 0): [4.0], ("target prefill", 16, 0): [9.0], ("trip", 0, 0): [1.5]}
    samples |= {("stream", 0, 0): [0.4, 0.6], ("draft at once", 1, 1): [6.5], ("verify at once", 5, 0): [30.0]}
    for length in cost_measurement.LENGTHS:
        for unread in (1, 2):
            samples["draft", length, unread] = [0.25 + 3.0 * length + 0.75 * (unread - 1)]
    found = cost_measurement.table(samples, "by hand")
    assert (found.draft.step_ms, found.draft.read_ms, found.round_ms) == pytest.approx((3.0, 0.75, 0.75))
    assert found.target.verify_ms == {1: 24.0, 5: 25.0}  # means: a sum has the slow ones too
    assert found.stream_ms == 0.5
    assert (found.draft.overlap_slowdown, found.target.overlap_slowdown) == (2.0, 1.2)
    assert found.link.rtt_ms == 1.5
    assert (found.draft.prefill_ms, found.target.prefill_ms) == ({16: 4.0}, {16: 9.0})


@pytest.mark.parametrize("settings", [[], ["decoding.temperature=0.9", "speculative.verification=rejection"]])
def test_limits_measures_a_cost_table_that_replay_reads(specbench, profile, tmp_path, settings):
    path = tmp_path / "costs.yaml"
    overrides = [part for text in settings for part in ("--set", text)]
    done = specbench("limits", "--profile", profile(), *overrides, "--costs", path, "--json")
    assert done.code == 0, done.err
    assert set(done.json["models"]) == {"edge", "cloud"}
    found = read_costs(path)
    assert set(found.target.verify_ms) == {1, *(length + 1 for length in cost_measurement.LENGTHS)}
    assert set(found.draft.prefill_ms) == set(found.target.prefill_ms) == set(cost_measurement.PROMPTS)
    assert found.draft.step_ms > 0
    assert min(found.target.verify_ms.values()) > 0
    assert "drafts for" in found.description


@pytest.mark.parametrize(
    ("cloud", "link", "rtt_ms", "overhead_ms"),
    [
        ({"placement": "process"}, {}, 0, 1.5),
        ({"placement": "process"}, {"rtt_ms": 20}, 20, 1.5),
        ({"placement": "process"}, {"rtt_ms": 20, "kind": "emulated"}, 1.5, 0),
        ({"placement": "ws://127.0.0.1:8470"}, {}, 1.5, 0),
        ({"placement": "ws://127.0.0.1:8470"}, {"rtt_ms": 20}, 21.5, 0),
    ],
)
def test_what_lies_between_is_a_link_only_where_there_is_one(cloud, link, rtt_ms, overhead_ms):
    measured = Costs(draft={"step_ms": 3}, target={"verify_ms": {1: 20}}, link={"rtt_ms": 1.5}, round_ms=0.25)
    overrides = [f"cloud.{key}={value}" for key, value in cloud.items()]
    overrides += [f"link.{key}={value}" for key, value in link.items()]
    found = cost_measurement.placed(measured, load_profile("default", overrides))
    assert (found.link.rtt_ms, found.link.overhead_ms, found.round_ms) == (rtt_ms, overhead_ms, 0.25)


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(specbench, profile, tmp_path):
    done = specbench("limits", "--profile", profile(), "--costs", tmp_path / "no" / "costs.yaml")
    assert done.code == 5
    assert "cannot be written" in done.err
