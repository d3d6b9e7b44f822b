"""The plan as a command: from chances, from a run, over a grid."""

import pytest


def test_the_command_plans_from_chances_alone(specbench):
    done = specbench("plan", "--acceptance", "0.8,0.7", "--set", "link.rtt_ms=5", "--json")
    assert done.code == 0, done.err
    assert "Infinity" not in done.out
    assert done.json["notes"] == []
    plan = done.json["methods"]["speculative"]
    assert (
        plan["best_draft_length"] == min(plan["forecasts"], key=lambda row: row["ms_per_token"])["draft_length"]
    )
    there = done.json["methods"]["speculative_colocated"]
    assert there["any_rtt"]
    assert there["forecasts"][0]["break_even_rtt_ms"] is None
    assert [name for name, found in done.json["methods"].items() if "windows" in found] == ["speculative"]
    one = ("plan", "--acceptance", "0.8,0.7", "--method", "speculative")
    shown = specbench(*one).out
    assert "(by the formula: " in " ".join(shown.split())
    assert "speculative: draft length" in shown
    assert "draft step 3.00 ms" in shown
    assert "target pass over 1, 2, 5, 9 tokens 30.0, 30.6, 32.4, 34.8 ms" in shown
    assert "equal chances" in shown
    loads = specbench(*one, "--objective-ms", "60", "--json").json["clients"]
    assert min(load["clients"] for load in loads.values()) >= 1


def test_the_command_plans_from_a_stored_run(specbench, profile):
    assert specbench("run", "speculative", "--profile", profile(edge={"layers": 1})).code == 0
    run_id = specbench("compare", "--json").json["runs"][0]
    done = specbench("plan", "--run", run_id, "--method", "speculative", "--json")
    assert done.code == 0, done.err
    assert done.json["conditional_acceptance"]


def test_a_plan_from_a_few_drafts_says_so(specbench, profile):
    words = ("--profile", profile(), "--limit", 1, "--max-new-tokens", 5)
    assert specbench("run", "speculative", *words).code == 0
    plan = ("plan", "--run", "latest", "--method", "speculative")
    (note,) = specbench(*plan, "--json").json["notes"]
    assert note.startswith("few samples: acceptance at position 1 is of ")
    assert "note: few samples" in " ".join(specbench(*plan).out.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "exactly one of --run, --trace and --acceptance"),
        (["--acceptance", "0.8", "--run", "x"], "exactly one of --run, --trace and --acceptance"),
        (["--acceptance", "80%"], "probabilities between 0 and 1"),
        (["--acceptance", "1.2"], "probabilities between 0 and 1"),
        (["--acceptance", "nan"], "probabilities between 0 and 1"),
        (["--run", "none"], "no run"),
        (["--trace", "none.json"], "cannot be read"),
        (["--acceptance", "0.8", "--costs", "none.yaml"], "cannot be read"),
        (["--acceptance", "0.8", "--costs", "none.yaml", "--step-ms", "9"], "--step-ms has no effect"),
        (["--acceptance", "0.8", "--step-ms", "0"], "step_ms"),
        (["--acceptance", "0.8", "--set", "rtt"], "key=value"),
        (["--acceptance", "0.8", "--set", "rtt=4"], "no value 'rtt'"),
    ],
)
def test_a_plan_from_nonsense_gets_one_clear_error(specbench, options, message):
    done = specbench("plan", *options)
    assert done.code in (2, 3, 5)
    assert message in done.err


@pytest.mark.slow
def test_a_plan_over_a_grid_is_the_map_that_a_replay_gives(specbench, tmp_path):
    by_hand = ("--acceptance", "0.8,0.7", "--step-ms", "20", "--cost-ratio", "0.1")
    over = ("--over", "link.rtt_ms=0,10,40", "--over", "target.speed=1,4")
    done = specbench("plan", *by_hand, *over, "--charts", tmp_path / "maps", "--json")
    assert done.code == 0, done.err
    rows = {(row["method"], *row["condition"].values()): row for row in done.json["rows"]}
    single = specbench("plan", *by_hand, "--set", "link.rtt_ms=10", "--json").json["methods"]["speculative"]
    found = rows["speculative", 10, 1]
    assert found["draft_length"] == single["best_draft_length"]
    assert found["speedup"] == single["forecasts"][found["draft_length"] - 1]["speedup"]
    even = next(each for each in done.json["break_even"] if each["method"] == "speculative")
    assert even["rtt_ms"] == pytest.approx(single["break_even_rtt_ms"], rel=0.1)
    assert (tmp_path / "maps" / "winner.svg").exists()
    assert "fastest" in specbench("plan", *by_hand, *over).out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--charts", "maps"), "the map of --over"),
        (("--over", "link.rtt=1,2"), "no value 'link.rtt'"),
        (("--over", "link.rtt_ms=1,2", "--objective-ms", "9"), "no effect"),
    ],
)
def test_a_plan_over_what_is_no_grid_gets_one_clear_error(specbench, words, message):
    done = specbench("plan", "--acceptance", "0.8", *words)
    assert done.code == 2
    assert message in done.err
