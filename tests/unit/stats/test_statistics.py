"""Verdicts, their correction, and what may be compared, on records made by hand."""

import io
import json
from math import log

import numpy as np
import pytest
from comparisons import PROFILE, pair, request, row, run
from rich.console import Console

from specbench.errors import SpecbenchError
from specbench.render.results import comparison_table
from specbench.results.records import Tuning
from specbench.stats import intervals, verdict
from specbench.stats.comparison import CONTROL, compare
from specbench.stats.document import comparison_document


@pytest.mark.parametrize(
    ("factor", "jitter", "expected"),
    [
        (1.3, 0.05, "faster"),
        (0.7, 0.05, "slower"),
        (1.0, 0.01, "equivalent within 3 %"),
        (1.015, 0.001, "equivalent within 3 %"),
        (1.05, 0.3, "no difference shown"),
    ],
)
def test_a_verdict_follows_from_the_interval(factor, jitter, expected):
    found = row([run(pair(24, factor, jitter))])
    assert found.verdict == expected
    low, high = found.speedup_interval
    assert low < found.speedup_vs_control < high
    assert f"{low:.2f} to {high:.2f}" in found.statement
    assert "24 prompts" in found.statement
    assert expected.split()[0] in found.statement


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((1.001, 1.5), "faster"),
        ((1.0, 1.5), "no difference shown"),
        ((0.5, 0.999), "slower"),
        ((1 / 1.03, 1.03), "equivalent within 3 %"),
        ((1.01, 1.02), "equivalent within 3 %"),
        ((1.01, 1.04), "faster"),
        (None, None),
    ],
)
def test_a_difference_that_is_surely_below_3_percent_is_equivalence(interval, expected):
    assert verdict.verdict(interval) == expected


def test_eleven_prompts_give_no_verdict_and_say_why():
    found = row([run(pair(11, 2.0, 0.01))])
    assert (found.verdict, found.speedup_interval) == (None, None)
    assert found.speedup_vs_control == pytest.approx(2.0, rel=0.02)
    assert "11 prompts, and 12 are needed (--limit)" in found.statement
    assert row([run(pair(12, 2.0, 0.01))]).verdict == "faster"


def test_constant_ratios_give_an_interval_of_no_width_and_no_nan():
    found = row([run(pair(12, 2.0))])
    assert found.speedup_interval == pytest.approx((2.0, 2.0))
    assert found.verdict == "faster"
    assert row([run(pair(12, 1.0))]).verdict == "equivalent within 3 %"


def test_questions_weigh_the_same_whatever_their_turns_and_repeats():
    records = []
    for turn in range(3):
        for repeat in range(2):
            fields = {"turn": turn, "turns": 3, "repeat": repeat}
            step_ms = 5.0 if repeat else 20.0
            records += [request(CONTROL, "long", 40.0, **fields), request("m", "long", step_ms, **fields)]
    records += [request(CONTROL, "short", 40.0), request("m", "short", 40.0)]
    found = verdict.speedup(
        [r for r in records if r.method == CONTROL], [r for r in records if r.method == "m"]
    )
    assert found.logs == pytest.approx({"long": log(4), "short": 0.0})
    assert found.ratio == pytest.approx(2.0)


def test_all_tokens_over_all_time_stand_beside_the_ratio_of_means():
    records = [request(CONTROL, "1", 40.0), request("m", "1", 10.0), request(CONTROL, "alone", 1.0)]
    assert row([run(records)]).throughput_vs_control == pytest.approx((100 + 8 * 40) / (100 + 8 * 10))


def test_holm_divides_by_what_is_left_and_stops_at_the_first_that_fails():
    levels = intervals.holm([0.04, 0.001, 0.02, 0.9])
    assert [round(corrected, 3) for _, corrected in levels] == [0.08, 0.004, 0.06, 0.9]
    assert [round(1 - level, 4) for level, _ in levels] == [0.0167, 0.0125, 0.0167, 0.0167]


def test_an_interval_excludes_zero_exactly_where_its_p_value_is_below_the_level():
    rng = np.random.default_rng(0)
    for shift in np.linspace(0, 0.6, 25):
        found = intervals.bootstrap(rng.standard_normal(24) + shift, [0] * 24, 1999)
        for level in (0.9, 0.95, 0.99):
            low, high = found.interval(level)
            near = abs(found.p_value() - (1 - level)) < 0.002
            assert near or (low > 0 or high < 0) == (found.p_value() < 1 - level)


def test_many_tests_at_once_can_still_tell_a_plain_difference():
    """Holm's levels lie farther out than resamples reach."""
    found = intervals.bootstrap(np.random.default_rng(0).standard_normal(24) + 5, [0] * 24)
    assert found.p_value() < 1e-6
    low, _ = found.interval(1 - 0.05 / 1000)
    assert low > 0
    wide, wider = (np.diff(found.interval(level))[0] for level in (0.99, 1 - 1e-5))
    assert wider > 1.3 * wide


def test_resampled_means_spread_as_the_sample_says():
    """Categories of four would otherwise seem a quarter less spread than they are."""
    values = np.random.default_rng(0).standard_normal(48)
    found = intervals.bootstrap(values, [name for name in range(12) for _ in range(4)])
    expected = values.reshape(12, 4).var(1, ddof=1).mean() / 48
    assert found.moved.var() == pytest.approx(expected, rel=0.05)


def test_small_categories_share_a_stratum():
    assert intervals.strata(["a"] * 4 + ["b"] * 2 + ["c"] * 3) == [0] * 4 + [1] * 5
    assert intervals.strata(["a"] * 5 + ["b"] * 4 + ["c"]) == [0] * 5 + [1] * 4 + [1]
    assert intervals.strata(list("abc")) == [0, 0, 0]


def test_categories_are_corrected_and_small_ones_get_no_verdict():
    records = [*pair(24, 1.5, 0.05, categories=2), request(CONTROL, "x", 40.0), request("m", "x", 20.0)]
    first, second, single = compare([run(records)]).categories
    assert (first.category, first.prompts, first.verdict) == ("c0", 12, "faster")
    assert (second.category, second.verdict) == ("c1", "faster")
    assert (single.prompts, single.verdict, single.interval, single.p_value) == (1, None, None, None)
    alone = compare([run(pair(12, 1.5, 0.05))]).categories[0]
    width = [log(high / low) for low, high in (first.interval, alone.interval)]
    assert width[0] > width[1], "two tests at once take wider intervals than one"


def test_no_difference_shown_names_the_flags_that_narrow_the_interval():
    notes = compare([run(pair(24, 1.05, 0.3))]).notes
    assert any("--limit" in note and "--repeats 3" in note for note in notes)


UNFAIR = PROFILE | {"cloud": {"dtype": "float16"}}


def test_unfair_runs_are_shown_with_a_label_on_every_row_and_without_a_verdict_across_them():
    alone = run((r for r in pair(12, 1.0) if r.method == CONTROL), "r1")
    other = run((r for r in pair(12, 2.0) if r.method == "m"), "r2", profile=UNFAIR)
    with pytest.raises(SpecbenchError, match=r"cloud\.dtype is float32 and float16"):
        compare([alone, other])
    found = compare([alone, other], allow_unfair=True)
    assert all(row.label.startswith("UNFAIR") for row in found.methods)
    assert found.setting.startswith("UNFAIR")
    assert "cloud.dtype is float32 in run r1 and float16 in run r2" in found.unfair[0]
    assert (row([alone, other], allow_unfair=True).verdict, found.categories) == (None, ())
    assert "no verdict on m" in row([alone, other], allow_unfair=True).statement


def test_each_run_is_compared_with_its_own_control_and_the_controls_with_each_other():
    fast = [request(method, str(q), ms) for q in range(12) for method, ms in ((CONTROL, 20.0), ("m", 10.0))]
    runs = [run(pair(12, 1.5), "r1"), run(fast, "r2")]
    assert row(runs, "m@r2").speedup_vs_control == pytest.approx(2.0)
    assert row(runs, "m@r2").reference == f"{CONTROL}@r2"
    assert row(runs, f"{CONTROL}@r2").speedup_vs_control == pytest.approx(2.0)
    assert row(runs, f"{CONTROL}@r2").reference == f"{CONTROL}@r1"
    assert "of run r1" in row(runs, f"{CONTROL}@r2").statement


def test_the_seed_decides_texts_only_where_they_are_sampled():
    def seeded(temperature):
        profile = PROFILE | {"decoding": {"temperature": temperature}}
        other = profile | {"workload": profile["workload"] | {"seed": 1}}
        return [run(pair(3, 1.0), profile=profile), run(pair(3, 1.0), "r2", profile=other)]

    assert compare(seeded(0.0))
    with pytest.raises(SpecbenchError, match=r"workload\.seed is 0 and 1"):
        compare(seeded(0.7))


def test_stop_rules_that_differ_are_named():
    with pytest.raises(SpecbenchError, match=r"stop_ids is \[1\] and \[1, 2\]"):
        compare([run(pair(3, 1.0), stop_ids=(1,)), run(pair(3, 1.0), "r2", stop_ids=(1, 2))])


def test_a_tuned_run_says_on_what():
    tuning = Tuning("qa", "r0", "m", ("9",), {"1": 10.0, "2": 9.0}, 2)
    (note,) = compare([run(pair(3, 1.0), tuning=tuning)]).notes
    assert note == "draft length 2 was chosen for m on 1 prompts of qa (run r0), which are not measured here"


def test_every_column_of_a_wide_comparison_fits_100_columns():
    records = [
        record
        for method, factor, jitter in (("slow", 0.5, 0.05), ("same", 1.0, 0.005), ("unclear", 1.05, 0.3))
        for record in pair(36, factor, jitter, categories=3, method=method)
        if record.method == method or method == "slow"
    ]
    out = io.StringIO()
    Console(file=out, width=100).print(comparison_table(compare([run(records)]), details=True))
    said = out.getvalue()
    assert max(map(len, said.splitlines())) <= 100
    for word in ("verdict", "slower", "equivalent within 3 %", "no difference shown", "c2", "100.0%"):
        assert word in said


def test_json_carries_everything_and_no_nan():
    document = json.loads(json.dumps(comparison_document(compare([run(pair(24, 1.3, 0.05))])), allow_nan=False))
    found = document["methods"]["m"]
    assert found["verdict"] == "faster"
    assert len(found["speedup_interval"]) == 2
    assert document["categories"][0]["p_value"] < 0.05
    assert found["percentiles"]["ttft_ms"]["p50"] == 100
