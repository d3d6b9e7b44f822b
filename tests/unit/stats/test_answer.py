"""The answer in one sentence: the best method, its interval, and whose text it is."""

from dataclasses import replace

import pytest
from comparisons import CONTROL, pair, run

from specbench.results.records import Divergence
from specbench.stats.answer import answer, compared, ranked
from specbench.stats.comparison import compare


@pytest.fixture(scope="module")
def comparison():
    """A control and one method, to be changed row by row."""
    return compare([run(pair(24, 1.3, 0.05))])


def told(comparison, *rows, **changes):
    """The sentence for a control and methods a, b, ..., each by verdict, speed-up and losslessness."""
    control, method = comparison.methods
    methods = tuple(
        replace(method, method=name, verdict=verdict, speedup_vs_control=ratio, lossless=lossless,
                speedup_interval=(0.5, 2.5) if verdict else None, exact_match=1.0 if lossless else 0.2)
        for name, (verdict, ratio, lossless) in zip("abc", rows, strict=False)
    )  # fmt: skip
    return answer(replace(comparison, methods=(control, *methods), **changes))


SAME, MAY = "same text as the cloud alone", "but its text may differ from the cloud's"
SHOWN = "(0.50 to 2.50)"


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([("faster", 1.5, True)], f"a is faster than the cloud alone: 1.50x {SHOWN}, {SAME}"),
        ([("faster", 1.5, True), ("faster", 1.7, True)], f"b is fastest: 1.70x {SHOWN}, {SAME}"),
        (
            [("faster", 1.5, True), ("no difference shown", 1.7, True)],
            f"a is faster than the cloud alone: 1.50x {SHOWN}, {SAME}",
        ),
        (
            [("faster", 1.5, True), ("faster", 9.0, False)],
            f"a is faster than the cloud alone: 1.50x {SHOWN}, {SAME}",
        ),
        ([("faster", 9.0, False)], f"a is faster than the cloud alone: 9.00x {SHOWN}, {MAY}"),
        ([("slower", 0.8, True)], f"a is slower than the cloud alone: 0.80x {SHOWN}, {SAME}"),
        (
            [("slower", 0.8, True), ("slower", 0.9, True)],
            f"No method is faster than the cloud alone: the best, b, reaches 0.90x {SHOWN}, {SAME}",
        ),
        (
            [("slower", 0.8, True), ("equivalent within 3 %", 1.0, True)],
            f"b is as fast as the cloud alone, within 3 %: 1.00x {SHOWN}, {SAME}",
        ),
        ([("no difference shown", 1.1, True)], f"No difference shown: a reaches 1.10x {SHOWN}, {SAME}"),
        (
            [("no difference shown", 1.1, True), ("slower", 0.5, True)],
            f"No method is shown to be faster than the cloud alone: the best, a, reaches 1.10x {SHOWN}, {SAME}",
        ),
        (
            [(None, 1.3, True)],
            f"Too few prompts for a verdict (24 of 12 prompts): a reaches 1.30x so far, {SAME}",
        ),
        ([(None, 5.0, None)], "No speed-up: only texts of another model were compared with the cloud alone"),
        ([], "No speed-up: no method was run beside the control"),
    ],
)  # fmt: skip
def test_the_sentence_says_what_the_lossless_methods_show_and_no_more(comparison, rows, sentence):
    assert told(comparison, *rows).sentence == sentence


def test_without_a_fair_and_whole_comparison_there_is_no_verdict(comparison):
    fast = ("faster", 1.5, True)
    assert told(comparison, fast, unfair=("threads",)).sentence == "No fair verdict: the runs differ"
    damaged = told(comparison, fast, faults=("a line is missing",))
    assert (damaged.sentence, damaged.verdict) == ("No verdict: the file of a run is damaged", None)
    repeating = told(comparison, fast, mostly_repeats=True)
    assert repeating.sentence == f"Measured on texts that repeat themselves: a reaches 1.50x {SHOWN}"
    assert repeating.verdict is None
    wrong = compare(
        [run(pair(24, 1.3, 0.05), divergences=(Divergence("m", "1", 0, 0, 3, (1, 2), verdict="bug"),))]
    )
    assert answer(wrong).sentence == "No verdict: m gave wrong texts"
    alone = replace(comparison, control=None, methods=())
    assert answer(alone).sentence == "No speed-up: the control, the cloud alone in the same loop, was not run"


def test_ties_and_sampled_texts_are_not_called_the_same_text(comparison):
    control, method = comparison.methods
    tied = replace(method, exact_match=0.96)
    tie = Divergence("m", "1", 0, 0, 3, (1, 2), verdict="tie")
    found = answer(replace(comparison, methods=(control, tied), divergences=(tie,)))
    assert found.sentence.endswith("96% of its texts are the cloud's, the rest are ties")
    unproven = answer(replace(comparison, methods=(control, tied)))
    assert unproven.sentence.endswith("96% of its texts are the cloud's")
    sampled = answer(replace(comparison, methods=(control, replace(method, exact_match=None))))
    assert sampled.sentence.endswith("same distribution of texts as the cloud alone")


def test_rows_are_ranked_lossless_first_and_by_their_speed(comparison):
    control, method = comparison.methods
    rows = [("lossy", 3.0, False), ("slow", 0.5, True), ("other", None, None), ("fast", 2.0, True)]
    changed = replace(comparison, methods=(
        *(replace(method, method=name, speedup_vs_control=ratio, lossless=lossless)
          for name, ratio, lossless in rows), control,
    ))  # fmt: skip
    assert [row.method for row in ranked(changed)] == [CONTROL, "fast", "slow", "lossy", "other"]
    assert [row.method for row in compared(changed)] == ["fast", "slow", "lossy"]
