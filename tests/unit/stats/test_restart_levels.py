"""What differs between processes is in the interval of a run with enough restarts."""

from dataclasses import replace

import pytest
from builders import generation
from comparisons import PROFILE, pair, row, run

from specbench.results.completeness import faults
from specbench.results.records import Written
from specbench.stats.comparison import compare
from specbench.stats.gate import relative
from specbench.stats.groups import groups_of, versus
from specbench.stats.headline import headline


def restarted(factors, questions=12, run_id="r1", jitter=0.001):
    """A run of which each process finds another speed-up; two repeats in each."""
    workload = PROFILE["workload"] | {"repeats": 2, "restarts": len(factors)}
    records = [
        replace(record, repeat=2 * restart + again)
        for restart, factor in enumerate(factors)
        for again in range(2)
        for record in pair(questions, factor, jitter)
    ]
    return run(records, run_id, profile=PROFILE | {"workload": workload})


def width(found):
    low, high = found.speedup_interval
    return high / low - 1


def test_an_interval_over_restarts_includes_what_differs_between_processes():
    apart = restarted((1.0, 1.01, 1.05))
    found = row([apart])
    assert (found.interval_levels, found.restarts) == (("restarts", "prompts"), 3)
    assert "over 3 restarts and 12 prompts" in found.statement
    assert "over 3 restarts and 12 prompts" in headline(compare([apart]))
    low, high = found.speedup_interval
    assert low < 1 < high
    once = replace(apart, manifest=replace(apart.manifest, profile=PROFILE))
    assert row([once]).speedup_vs_control == pytest.approx(found.speedup_vs_control)
    assert row([once]).interval_levels == ("prompts",)
    assert row([once]).verdict == "equivalent within 3 %", "the same answers as repeats of one process"
    assert width(found) > 10 * width(row([once]))


def test_processes_that_agree_leave_the_interval_as_narrow_as_prompts_make_it():
    alike = row([restarted((1.2, 1.2, 1.2), jitter=0.05)])
    single = row([run(pair(12, 1.2, 0.05))])
    assert width(alike) == pytest.approx(width(single), rel=1e-6)


def test_two_restarts_are_too_few_and_the_result_says_so():
    found = compare([restarted((1.0, 1.05))])
    (method,) = [each for each in found.methods if each.method == "m"]
    assert (method.interval_levels, method.restarts) == (("prompts",), 2)
    assert "over 12 prompts)" in method.statement
    assert any("2 restarts are too few" in note and "--restarts" in note for note in found.notes)


def test_a_restart_that_was_cut_off_is_no_evidence_about_restarts():
    whole = restarted((1.0, 1.01, 1.05))
    cut = replace(whole, generations=whole.generations[:-30])
    assert row([cut]).interval_levels == ("prompts",)


def test_a_change_between_two_runs_covers_the_restarts_of_both():
    first, second = (restarted(factors, run_id=name) for name, factors in
                     (("r1", (1.0, 1.01, 1.05)), ("r2", (1.1, 1.1, 1.1))))  # fmt: skip
    speeds = []
    for each in (first, second):
        control, method = groups_of([each])
        speeds.append(versus(method, control))
    changed = relative(*speeds)
    assert changed.levels == ("restarts", "prompts")
    low, high = changed.interval
    assert low < changed.ratio < high
    assert high / low > speeds[1].interval[1] / speeds[1].interval[0] * 1.05
    assert relative(replace(speeds[0], restarts=()), speeds[1]).levels == ("prompts",)


def test_answers_of_every_restart_belong_to_a_finished_run():
    asked = {"prompt_ids": ("1",), "turns": {"1": ("who?",)}, "methods": ("m",)}
    workload = {"repeats": 1, "restarts": 2}
    made = run([generation()], profile=PROFILE | {"workload": workload}, **asked).manifest
    (fault,) = faults(made, [generation()], Written(1, ""))
    assert "1 of 2 answers" in fault
    assert "repeat 2" in fault
