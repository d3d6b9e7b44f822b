"""A plan from a run takes the run's costs; what nobody measured or gave it assumes aloud."""

from dataclasses import replace
from statistics import median

import pytest
from builders import generation
from comparisons import PROFILE, run
from stores import stored

from specbench.errors import SpecbenchError
from specbench.forecast.assumed import assumptions, by_numbers
from specbench.profile.cost_table import Costs
from specbench.results.records import CONTROL, Round
from specbench.stats.measured_costs import run_costs

STEP_MS, WIDE_MS, DRAFT_MS, TRIP_MS, REST_MS = 1000.0, 1200.0, 160.0, 50.0, 7.0


def texts(method="speculative", rounds=12, **fields):
    """Rounds of four drafted tokens, all alike."""
    values = {"draft_ms": 4 * DRAFT_MS, "verify_ms": WIDE_MS, **fields}
    parts = [Round(tokens=(1,))] + [Round(tokens=(1, 1), drafted=4, accepted=1, **values)] * rounds
    took = 4 * DRAFT_MS + WIDE_MS + (parts[-1].link_ms or 0.0) + REST_MS
    return generation(
        method=method, rounds=tuple(parts), arrival_ms=tuple(took * index for index in range(len(parts)))
    )


def alone(verify_ms=STEP_MS):
    parts = (Round(tokens=(1,), verify_ms=9.0), *(Round(tokens=(1,), verify_ms=verify_ms),) * 4)
    return generation(method=CONTROL, rounds=parts, arrival_ms=tuple(verify_ms * index for index in range(5)))


def keys(found):
    return {each.key for each in found}


def test_costs_are_the_runs_medians():
    found = run_costs(run([alone(), texts()]))
    assert found.target.verify_ms == {1: STEP_MS, 5: WIDE_MS}
    assert found.draft.step_ms == DRAFT_MS
    assert found.round_ms == pytest.approx(REST_MS)
    assert (found.link.rtt_ms, found.link.overhead_ms) == (0.0, 0.0)
    assert found.description == "run r1"


def test_a_draft_that_reads_hidden_states_is_planned_with_their_bytes():
    fed = texts(method="speculative_eagle", bytes_up=40, bytes_down=2 * 6912 + 10, feature_bytes=2 * 6912)
    found = run_costs(run([alone(), fed]))
    assert found.bytes.down_per_token == 6912 + 5
    assert found.draft.step_ms == DRAFT_MS


def test_a_round_trip_is_measured_where_none_was_set_and_its_excess_where_one_was():
    real = {**PROFILE, "cloud": {"dtype": "float32", "placement": "ws://host:1"}}
    found = run_costs(run([alone(), texts(rtt_ms=TRIP_MS)], profile=real))
    assert (found.link.rtt_ms, found.link.overhead_ms) == (TRIP_MS, 0.0)
    modelled = {**PROFILE, "link": {"rtt_ms": 40.0}}
    found = run_costs(run([alone(), texts(rtt_ms=TRIP_MS)], profile=modelled))
    assert (found.link.rtt_ms, found.link.overhead_ms) == (40.0, pytest.approx(10.0))
    assert found.round_ms == pytest.approx(REST_MS)


def test_widths_of_a_few_rounds_tell_nothing_beside_those_of_many():
    tail = Round(tokens=(1, 1), drafted=2, accepted=1, draft_ms=3.0, verify_ms=1.0)
    text = texts()
    text = replace(text, rounds=(*text.rounds, tail), arrival_ms=(*text.arrival_ms, 1e6))
    assert set(run_costs(run([alone(), text])).target.verify_ms) == {1, 5}
    assert set(run_costs(run([alone(), texts(rounds=3)])).target.verify_ms) == {1, 5}


def test_a_draft_beside_the_target_is_the_runs_where_it_has_one():
    beside = texts("speculative_colocated", draft_ms=4 * 5.0, streamed=True)
    assert run_costs(run([alone(), texts(), beside])).colocated_step_ms == 5.0
    found = run_costs(run([alone(), texts()]))
    assert "colocated_step_ms" in keys(assumptions(found))


def test_what_a_run_does_not_tell_is_listed():
    found = assumptions(run_costs(run([alone(), texts()])))
    overlap = {"draft.overlap_slowdown", "target.overlap_slowdown"}
    assert keys(found) == {"target.verify_ms", "colocated_step_ms", *overlap}
    assert "beyond 5 tokens a verification grows as from 1 to 5" in [each.text for each in found]
    limited = {**PROFILE, "link": {"rtt_ms": 40.0, "uplink_mbps": 1.0}}
    sizes = {
        key for key in keys(assumptions(run_costs(run([alone(), texts()], profile=limited)))) if "bytes" in key
    }
    assert len(sizes) == 3, "with a rate, the size of a message matters"


def test_a_run_that_timed_no_draft_has_no_costs():
    assert run_costs(run([alone()])) is None
    assert run_costs(run([alone(), texts(draft_ms=None)])) is None


def test_without_a_control_a_step_of_the_target_must_be_given():
    found = run_costs(run([texts()]))
    with pytest.raises(SpecbenchError, match="run r1 has no control") as caught:
        by_numbers(found, None, None, None)
    assert "--step-ms" in caught.value.hint
    table, _ = by_numbers(found, 800.0, None, None)
    assert table.target.verify_ms == {1: 800.0, 2: pytest.approx(900.0)}


def test_numbers_by_hand_replace_the_runs_and_leave_the_others():
    found = run_costs(run([alone(), texts()]))
    table, assumed = by_numbers(found, 500.0, None, None)
    assert table.target.verify_ms == {1: 500.0, 2: pytest.approx(500 * 1.05)}
    assert table.draft.step_ms == pytest.approx(80.0), "as many steps of the target as in the run"
    assert table.round_ms == found.round_ms
    assert keys(assumed) == {"colocated_step_ms", "draft.overlap_slowdown", "target.overlap_slowdown"}
    table, _ = by_numbers(found, None, 0.5, None)
    assert (table.target.verify_ms[1], table.draft.step_ms) == (STEP_MS, 500.0)


def test_numbers_that_nobody_gave_are_assumed_aloud():
    _, assumed = by_numbers(None, None, None, None)
    assert [each.value for each in assumed[:3]] == [30.0, 0.1, 0.02]
    assert "a target step takes 30 ms (--step-ms)" in [each.text for each in assumed]
    assert "link.rtt_ms" in keys(assumed)
    _, assumed = by_numbers(None, 20.0, 0.2, 0.05)
    assert not {"target.verify_ms", "draft.step_ms"} & keys(assumed)


def test_of_a_table_the_values_that_are_not_in_it_are_assumed():
    table = Costs.model_validate(
        {"draft": {"step_ms": 2.0}, "target": {"verify_ms": {1: 20.0}}, "round_ms": 1.0}
    )
    found = keys(assumptions(table, given=("link.rtt_ms",)))
    assert {"target.verify_ms", "draft.read_ms", "link.overhead_ms", "colocated_step_ms"} <= found
    assert not {"link.rtt_ms", "round_ms", "bytes.per_message"} & found
    whole = Costs.model_validate(table.model_dump())
    assert keys(assumptions(whole)) == {"target.verify_ms"}


def test_the_command_takes_a_runs_costs_and_lists_what_it_assumes(specbench, profile, tmp_path):
    assert specbench("run", "speculative", "--profile", profile(edge={"layers": 1})).code == 0
    kept = stored(tmp_path)
    done = specbench("plan", "--run", kept.manifest.run_id, "--json")
    assert done.code == 0, done.err
    steps = [part.verify_ms for each in kept.generations if each.method == CONTROL for part in each.rounds[1:]]
    assert done.json["costs"]["target"]["verify_ms"]["1"] == pytest.approx(median(steps))
    overlap = {"draft.overlap_slowdown", "target.overlap_slowdown"}
    assert {each["key"] for each in done.json["assumed"]} == {"target.verify_ms", "colocated_step_ms", *overlap}
    shown = specbench("plan", "--run", kept.manifest.run_id).out
    assert f"costs: run {kept.manifest.run_id}, and assumed:" in shown
    assert "(colocated_step_ms)" in shown


@pytest.mark.slow
def test_what_is_given_is_not_assumed(specbench):
    assumed = {
        each["key"]: each["value"]
        for each in specbench("plan", "--acceptance", "0.8", "--json").json["assumed"]
    }
    assert assumed["draft.step_ms"] == 0.1
    words = ("--acceptance", "0.8", "--step-ms", "20", "--width-cost", "0.1", "--cost-ratio", "0.2")
    done = specbench("plan", *words, "--set", "link.rtt_ms=5", "--json").json
    assert not {"target.verify_ms", "draft.step_ms", "link.rtt_ms"} & {each["key"] for each in done["assumed"]}
    mapped = specbench("plan", *words, "--over", "link.rtt_ms=0,5", "--over", "round_ms=0,1", "--json").json
    assert not {"link.rtt_ms", "round_ms"} & {each["key"] for each in mapped["assumed"]}
    assert "assumed: " in specbench("plan", "--acceptance", "0.8", "--over", "link.rtt_ms=0,5").out
    counted = specbench("plan", "--acceptance", "0.8", "--objective-ms", "60").out
    assert "- a client's texts have 128 tokens after prompts of 64 (texts)" in counted


def test_a_plan_from_a_run_takes_its_prices_and_no_power_which_it_has_not_modelled():
    found = run_costs(run([alone(), texts()], profile={**PROFILE, "prices": {"cloud_per_hour": 2.0}}))
    assert found.prices.cloud_per_hour == 2.0
    assert found.power is None
    assert run_costs(run([alone(), texts()])).prices is None
