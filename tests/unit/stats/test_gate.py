"""The gate of `compare --fail-if-slower`: decided by the interval, and undecided is no failure."""

import pytest
from comparisons import CONTROL, PROFILE, pair, request, run

from specbench.errors import ExitCode, SpecbenchError
from specbench.results.records import Divergence, Failure
from specbench.stats.gate import gate, in_words, status


def outcomes(runs, allowed):
    return [each.outcome for each in gate(runs, allowed)]


def slowed(by, run_id="r2", questions=12, control=1.0):
    """A run whose method is 2 times as fast as the control, divided by `by`; its machine `control` as slow."""
    records = [
        record
        for question in range(questions)
        for record in (
            request(CONTROL, str(question), 40.0 * control, category="c"),
            request("m", str(question), 20.0 * by * control, category="c"),
        )
    ]
    return run(records, run_id)


def test_a_method_is_held_against_the_control_of_its_run():
    (found,) = gate([run(pair(12, 0.8))], 0.05)
    assert (found.outcome, found.reference, found.prompts) == ("slower", "the cloud alone", 12)
    assert found.speed == pytest.approx(0.8)
    assert "Gate failed: m of run r1 is more than 5 % slower than the cloud alone" in in_words(found, 0.05)
    assert status([found]) == ExitCode.CHECK_FAILED
    (kept,) = gate([run(pair(12, 0.97))], 0.05)
    assert (kept.outcome, status([kept])) == ("not slower", ExitCode.OK)


def test_the_interval_decides_and_not_the_figure():
    (found,) = gate([run(pair(12, 0.93, jitter=0.2))], 0.05)
    assert found.speed < 1 / 1.05 < found.interval[1]
    assert (found.outcome, status([found])) == ("undecided", ExitCode.OK)
    assert "Gate undecided, which is no failure" in in_words(found, 0.05)
    (few,) = gate([run(pair(11, 0.5))], 0.05)
    assert (few.outcome, few.interval) == ("undecided", None)
    assert "12 are needed" in in_words(few, 0.05)


def test_of_two_runs_the_second_is_held_against_the_first_by_their_own_controls():
    before = slowed(1.0, "r1")
    assert outcomes([before, slowed(1.04)], 0.05) == ["not slower"]
    assert outcomes([before, slowed(1.08)], 0.05) == ["slower"]
    assert outcomes([before, slowed(1.08)], 0.1) == ["not slower"]
    assert outcomes([before, slowed(1.0, control=1.5)], 0.05) == [
        "not slower"
    ]  # a slower moment of the machine


def by_chance(*chances):
    return {**PROFILE, "speculative": {**PROFILE["speculative"], "synthetic_acceptance": chances}}


def test_chance_is_held_against_the_same_chance_by_name_and_never_against_the_cloud_alone():
    before, after = (run(pair(12, 2.0), name, profile=by_chance(0.8)) for name in ("r1", "r2"))
    (found,) = gate([before, after], 0.05)
    assert (found.outcome, found.synthetic) == ("not slower", "synthetic acceptance 0.8")
    assert "than in run r1: with synthetic acceptance 0.8, 1.00 times" in in_words(found, 0.05)
    with pytest.raises(SpecbenchError, match=r"r1 has synthetic acceptance 0\.8, so nothing is known"):
        gate([before], 0.05)
    for other in (by_chance(0.9), PROFILE):
        with pytest.raises(SpecbenchError, match="that alone makes one faster"):
            gate([before, run(pair(12, 2.0), "r2", profile=other)], 0.05)


def test_a_method_that_a_later_run_lacks_is_an_error_and_a_new_one_is_told():
    one = list(pair(12, 2.0))
    two = [*one, *(each for each in pair(12, 3.0, method="n") if each.method == "n")]
    with pytest.raises(SpecbenchError, match="run r2 has no answer of n, and run r1 has"):
        gate([run(two), run(one, "r2")], 0.05)
    kept, new = gate([run(one), run(two, "r2")], 0.05)
    assert [(each.method, each.outcome) for each in (kept, new)] == [("m", "not slower"), ("n", "undecided")]
    assert "whether n of run r2 is more than 5 % slower than in run r1, where it has no answer" in in_words(
        new, 0.05
    )


def test_runs_without_a_common_prompt_are_an_error_and_no_pass():
    others = [request(method, f"other {n}", 20.0) for n in range(12) for method in (CONTROL, "m")]
    with pytest.raises(SpecbenchError, match="m of run r2 and in run r1 share no prompt"):
        gate([run(pair(12, 1.0)), run(others, "r2")], 0.05)
    with pytest.raises(SpecbenchError, match="m of run r1 and the cloud alone share no prompt"):
        gate([run([request(CONTROL, "1", 20.0), request("m", "2", 20.0)])], 0.05)


def test_wrong_texts_fail_whatever_their_speed():
    wrong = Divergence("m", "1", 0, 0, 1, (1, 2), verdict="bug")
    (found,) = gate([run(pair(12, 2.0), divergences=(wrong,))], 0.05)
    assert (found.outcome, status([found])) == ("wrong text", ExitCode.IDENTITY)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (run(pair(12, 1.0), failures=(Failure("m", "1", "ValueError: no"),)), "m failed in run r1"),
        (run([request("m", "1", 20.0)]), "has no answer of the control"),
        (run([request(CONTROL, "1", 20.0)]), "no method to hold"),
    ],
)
def test_what_cannot_be_judged_is_an_error_and_no_pass(made, reason):
    with pytest.raises(SpecbenchError, match=reason):
        gate([made], 0.05)
