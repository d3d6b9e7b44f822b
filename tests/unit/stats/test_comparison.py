"""The figures of a comparison, worked out by hand; and runs that may not be compared."""

from dataclasses import replace
from math import sqrt

import pytest
from builders import generation, manifest

from specbench.errors import ExitCode, SpecbenchError
from specbench.results.records import Divergence, Failure, Round, Run
from specbench.stats.comparison import compare

PROFILE = {
    "edge": {"dtype": "float32"},
    "cloud": {"dtype": "float32"},
    "engine": {"kind": "eager"},
    "workload": {"max_new_tokens": 8},
    "decoding": {"temperature": 0.0},
    "speculative": {"draft_length": 4},
    "precision": {"parity": "edge_cloud"},
}
CONTROL = "cloud_optimized_baseline"


def autoregressive(method, prompt_id, tokens, step_ms, **fields):
    arrivals = tuple(100 + step_ms * index for index in range(len(tokens)))
    return generation(prompt_id, tokens, method=method, arrival_ms=arrivals, **fields)


def run(records, run_id="r1", **changes):
    names = tuple(dict.fromkeys(record.method for record in records))
    lossless = dict.fromkeys(names, True)
    models = {"cloud": {"files": {"model.safetensors": "00"}}}
    settings = manifest(
        run_id, models=models, methods=names, lossless=lossless, profile=PROFILE, status="finished"
    )
    return Run(replace(settings, **changes), tuple(records))


@pytest.fixture
def speculative():
    rounds = (
        Round(tokens=(1,)),
        Round(tokens=(2, 3, 4), drafted=4, accepted=2, draft_ms=4, verify_ms=10),
        Round(tokens=(5,), drafted=4, accepted=0, draft_ms=4, verify_ms=10),
    )
    return generation("1", method="speculative", rounds=rounds, arrival_ms=(120, 150, 180))


def rows(comparison):
    return {row.method: row for row in comparison.methods}


def test_figures_are_those_that_a_hand_works_out(speculative):
    control = autoregressive(CONTROL, "1", (1, 2, 3, 4, 5), 30.0)
    table = rows(compare([run([speculative, control])]))
    row = table["speculative"]
    assert row.tokens == 5
    assert row.ttft_ms == 120
    assert row.tpot_ms == (180 - 120) / 4
    assert row.tokens_per_second == pytest.approx(5 / 0.180)
    assert row.acceptance_rate == 2 / 8
    assert row.acceptance_length == 4 / 2
    assert row.speedup_vs_control == pytest.approx(30 / 15)
    assert row.speedup_vs_cloud_baseline is None
    assert row.exact_match == 1.0
    assert table[CONTROL].speedup_vs_control == 1.0
    assert table[CONTROL].acceptance_rate is None


def test_of_several_runs_what_is_told_of_a_method_names_its_row(speculative):
    control = autoregressive(CONTROL, "1", (1, 2, 3, 4, 5), 30.0)
    broken = {"failures": (Failure("speculative", "2", "it broke"), Failure("m", None, "it broke"))}
    broken["divergences"] = (Divergence("speculative", "1", 0, 0, 3, (1, 2), verdict="bug"),)
    runs = [run([speculative, control], name, **broken) for name in ("r1", "r2")]
    found = compare(runs)
    rows = ["speculative@r1", "speculative@r2"]
    assert [row.method for row in found.methods if row.acceptance] == rows
    assert [part.method for part in found.divergences] == rows
    assert [part.method for part in found.predictions] == rows
    assert [part.method for part in found.failures] == ["speculative@r1", "m@r1", "speculative@r2", "m@r2"]
    assert [part.method for part in compare(runs[:1]).failures] == ["speculative", "m"]


def test_a_speedup_is_a_ratio_of_geometric_means_over_paired_prompts():
    records = [
        autoregressive(CONTROL, "1", (1, 2), 40.0),
        autoregressive(CONTROL, "2", (1, 2), 10.0),
        autoregressive(CONTROL, "unpaired", (1, 2), 1.0),
        autoregressive("m", "1", (1, 2), 10.0),
        autoregressive("m", "2", (1, 2), 20.0),
    ]
    assert rows(compare([run(records)]))["m"].speedup_vs_control == pytest.approx(sqrt(40 / 10 * 10 / 20))


def test_a_single_token_has_no_tpot_and_takes_no_part_in_the_speedup():
    records = [autoregressive(CONTROL, "1", (1,), 40.0), autoregressive("m", "1", (1,), 10.0)]
    row = rows(compare([run(records)]))["m"]
    assert row.tpot_ms is None
    assert row.speedup_vs_control is None
    assert row.exact_match == 1.0


def test_turns_whose_prompts_differ_are_not_paired():
    records = [
        autoregressive(CONTROL, "1", (1, 2), 40.0, prompt_sha256="a"),
        autoregressive("m", "1", (3, 4), 10.0, prompt_sha256="b"),
    ]
    row = rows(compare([run(records)]))["m"]
    assert row.exact_match is None
    assert row.speedup_vs_control is None


def test_sampled_text_has_no_exact_match(speculative):
    profile = PROFILE | {"decoding": {"temperature": 0.7}}
    records = [speculative, autoregressive(CONTROL, "1", (1, 2, 3, 4, 5), 30.0)]
    assert rows(compare([run(records, profile=profile)]))["speculative"].exact_match is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"profile": PROFILE | {"cloud": {"dtype": "float16"}}}, r"cloud\.dtype is float32 and float16"),
        ({"profile": PROFILE | {"workload": {"max_new_tokens": 9}}}, r"workload\.max_new_tokens is 8 and 9"),
        ({"profile": PROFILE | {"decoding": {"temperature": 1.0}}}, r"decoding\.temperature"),
        ({"profile": PROFILE | {"engine": {"kind": "compiled"}}}, r"engine\.kind"),
        ({"prompts_sha256": "other"}, "prompts is"),
        ({"threads": 8}, "threads is 1 and 8"),
        ({"versions": {"torch": "9"}}, r"versions\.torch"),
        ({"machine": {"cpu": "another"}}, r"machine\.cpu"),
        ({"models": {"cloud": {"files": {"model.safetensors": "ff"}}}}, r"models\.cloud\.files"),
    ],
)
def test_runs_that_differ_in_what_figures_depend_on_are_refused(speculative, changes, field):
    with pytest.raises(SpecbenchError, match=field) as caught:
        compare([run([speculative]), run([speculative], "r2", **changes)])
    assert caught.value.exit_code == ExitCode.UNFAIR


def test_a_run_without_the_edge_is_compared_with_one_that_has_it(speculative):
    edge = {"edge": {"files": {"model.safetensors": "ee"}}}
    alone = run([autoregressive(CONTROL, "1", (1, 2, 3, 4, 5), 30.0)])
    both = run([speculative], "r2", models=alone.manifest.models | edge)
    assert set(rows(compare([alone, both]))) == {CONTROL, "speculative"}


def test_runs_that_differ_in_how_they_draft_are_compared(speculative):
    longer = PROFILE | {"speculative": {"draft_length": 8}}
    table = rows(compare([run([speculative]), run([speculative], "r2", profile=longer)]))
    assert set(table) == {"speculative@draft_length=4", "speculative@draft_length=8"}


def test_rows_of_several_runs_are_named_by_all_that_tells_them_apart_and_else_by_their_run(speculative):
    def drafting(run_id, **settings):
        control = autoregressive(CONTROL, "1", (1, 2, 3, 4, 5), 30.0)
        return run([speculative, control], run_id, profile=PROFILE | {"speculative": settings})

    runs = [
        drafting("r1", draft_length=2, verification="greedy"),
        drafting("r2", draft_length=4, verification="greedy"),
        drafting("r3", draft_length=4, verification="coupled"),
    ]
    found = compare(runs)
    assert [row.method for row in found.methods] == [
        "speculative@draft_length=2,verification=greedy", f"{CONTROL}@r1",
        "speculative@draft_length=4,verification=greedy", f"{CONTROL}@r2",
        "speculative@draft_length=4,verification=coupled", f"{CONTROL}@r3",
    ]  # fmt: skip
    assert found.told_runs[0] == "r1 (draft_length=2,verification=greedy)"
    again = compare([runs[0], run(runs[0].generations, "r4", profile=runs[0].manifest.profile)])
    assert [row.method for row in again.methods][::2] == ["speculative@r1", "speculative@r4"]
    assert again.told_runs == ("r1", "r4")


def test_notes_of_several_runs_name_their_run_unless_they_hold_for_all(speculative):
    unchecked = PROFILE | {"precision": {"parity": "off"}}
    runs = [run([speculative], name, profile=unchecked) for name in ("r1", "r2")]
    runs[1] = run([speculative], "r2", profile=unchecked, isolated_rss_bytes={"speculative": 9})
    told = compare(runs, allow_unfair=True).notes
    assert "precision was not checked (precision.parity: off)" in told
    assert "run r2: peak RSS of speculative was measured in its own process (--isolate)" in told


def test_a_comparison_says_what_was_not_checked(speculative):
    comparison = compare([run([speculative], profile=PROFILE | {"precision": {"parity": "off"}})])
    assert "precision was not checked" in comparison.notes[0]
    assert comparison.setting.startswith("co-located")


def test_runs_whose_models_really_had_other_engines_are_refused():
    records = [autoregressive(CONTROL, "1", (1, 2, 3), 30.0)]
    left, right = run(records, engines={"cloud": "compiled"}), run(records, "r2", engines={"cloud": "eager"})
    with pytest.raises(SpecbenchError, match="the cloud's engine is compiled and eager"):
        compare([left, right])


def test_the_title_names_the_engine_that_ran_and_not_the_one_asked_for():
    records = [autoregressive(CONTROL, "1", (1, 2, 3), 30.0)]
    profile = {**PROFILE, "engine": {"kind": "compiled"}}
    assert "· eager engine ·" in compare([run(records, profile=profile, engines={"cloud": "eager"})]).setting
    mixed = {"cloud": "compiled", "edge": "eager"}
    assert "· compiled cloud and eager edge engine ·" in compare([run(records, engines=mixed)]).setting


def test_a_quantised_edge_is_named_in_the_title_and_its_difference_in_a_note(speculative):
    edge = {"dtype": "float32", "quantization": "int8"}
    profile = PROFILE | {"edge": edge, "precision": {"parity": "per_role"}}
    comparison = compare([run([speculative], profile=profile)])
    assert "edge int8 weights, float32 arithmetic, cloud float32" in comparison.setting
    assert any("differ in precision on purpose" in note for note in comparison.notes)


def test_the_title_names_what_changes_or_ends_an_answer(speculative):
    assert "penalty" not in compare([run([speculative])]).setting
    decoding = {"temperature": 0.0, "repetition_penalty": 1.3, "presence_penalty": 0.0, "logit_bias": {"4": -9}}
    profile = {**PROFILE, "decoding": {**decoding, "stop": ["\n\n", "END"]}}
    told = compare([run([speculative], profile=profile)]).setting
    assert told.endswith(r'repetition penalty 1.3 · a bias on 1 token · stop "\n\n", "END"')
    assert "presence" not in told


def test_runs_of_other_prompts_are_told_to_ask_the_same_ones(speculative):
    with pytest.raises(SpecbenchError, match="prompts is 1 ") as caught:
        compare([run([speculative]), run([speculative], "r2", prompts_sha256="other")])
    assert "or run both with the same prompts (--limit, --prompts)" in caught.value.hint
