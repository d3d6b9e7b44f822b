"""What sizes and times of messages reveal: a planted signal is found, and noise is not."""

import numpy as np
import pytest
from builders import generation
from comparisons import run

from specbench.errors import SpecbenchError, StoreError
from specbench.results.records import Round
from specbench.stats.leak import FOLDS, folds, leak, neighbours


def answer(rng, prompt, category, mean_down=30.0, repeat=0, prompt_bytes=90, method="m"):
    """Messages of random sizes and times; `mean_down` is the mean size of those that come back."""
    downs = rng.normal(mean_down, 3, 12).round().astype(int).tolist()
    rounds = (
        Round(tokens=(1,), bytes_up=prompt_bytes, bytes_down=27),
        *(Round(tokens=(1,), bytes_up=int(rng.integers(14, 18)), bytes_down=down) for down in downs),
    )
    arrivals = tuple(np.cumsum(rng.uniform(20, 40, len(rounds))).tolist())
    return generation(
        str(prompt), method=method, category=category, repeat=repeat, rounds=rounds, arrival_ms=arrivals
    )


def found(records, identifies="task", **changes):
    rows = leak(run(records, **changes)).rows
    return {row.seen: row for row in rows if row.identifies == identifies}


def test_a_task_whose_messages_are_larger_is_identified_by_sizes_and_not_by_times():
    rng = np.random.default_rng(3)
    rows = found(answer(rng, at, f"c{at % 2}", mean_down=30 + 8 * (at % 2)) for at in range(40))
    assert rows["sizes"].accuracy > 0.9
    assert rows["all"].accuracy > 0.8
    assert max(rows["sizes"].p_value, rows["all"].p_value) < 0.05
    assert rows["sizes"].interval[0] > 0.5
    assert min(rows["times"].p_value, rows["request"].p_value) > 0.05
    assert [(row.prompts, row.classes, row.majority) for row in rows.values()] == [(40, 2, 0.5)] * 4


def test_noise_is_guessed_as_often_as_by_chance():
    rows = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        rows += found(answer(rng, at, f"c{at % 4}") for at in range(48)).values()
    assert np.mean([row.accuracy for row in rows]) == pytest.approx(0.25, abs=0.06)
    assert all(row.chance == pytest.approx(0.25, abs=0.03) for row in rows)
    assert sum(row.p_value <= 0.05 for row in rows) <= 1  # of 12, each corrected for four


def test_a_prompts_own_answers_never_tell_its_task():
    """Each prompt has sizes of its own, which every repeat has again: they identify the prompt alone."""
    records = []
    for at in range(40):
        records += [answer(np.random.default_rng(at), at, f"c{at % 2}", repeat=repeat) for repeat in range(2)]
    assert found(records)["sizes"].p_value > 0.05
    prompts = found(records, "prompt")
    assert prompts["sizes"].accuracy == 1
    assert prompts["sizes"].classes == 40
    assert abs(prompts["sizes"].chance - 1 / 40) < 0.01


def test_no_answer_has_its_own_prompt_as_a_neighbour():
    prompt = np.repeat(np.arange(20), 3)
    near = neighbours(prompt[:, None].astype(float), prompt, folds(["a", "b"] * 10))
    assert not (near == prompt[:, None]).any()
    assert np.abs(near - prompt[:, None]).max() < 10  # and those it has are near


def test_only_prompts_with_repeats_are_to_be_identified():
    records = [answer(np.random.default_rng(at), at, f"c{at % 2}") for at in range(40)]
    records += [answer(np.random.default_rng(at), at, f"c{at % 2}", repeat=1) for at in range(3, 40, 4)]
    row = found(records, "prompt")["sizes"]
    assert (row.prompts, row.classes, row.accuracy) == (10, 10, 1)


def test_prompts_whose_repeats_have_nothing_in_common_are_not_identified():
    rng = np.random.default_rng(5)
    records = [answer(rng, at, f"c{at % 2}", repeat=repeat) for at in range(40) for repeat in range(2)]
    assert all(row.p_value > 0.05 for row in found(records, "prompt").values())


def test_folds_have_the_same_share_of_each_category():
    categories = ["a"] * 10 + ["b"] * 15
    fold = folds(categories)
    for each in range(FOLDS):
        assert [categories[at] for at in np.flatnonzero(fold == each)] == ["a"] * 2 + ["b"] * 3


def test_what_is_left_out_is_said():
    rng = np.random.default_rng(0)
    records = [answer(rng, at, f"c{at % 2}") for at in range(20)]
    records += [answer(rng, 20, "rare"), *(generation(str(at), method="edge") for at in range(20))]
    told = leak(run(records))
    assert {row.method for row in told.rows} == {"m"}
    assert told.notes == (
        "edge sent nothing and is left out",
        "m: categories of fewer than 5 prompts are left out: rare",
        "m has under 5 prompts with repeats; to identify prompts, raise workload.repeats",
    )


def test_runs_that_cannot_show_a_leak_are_refused_by_name():
    rng = np.random.default_rng(0)
    with pytest.raises(SpecbenchError, match="run r7 has no bytes of messages"):
        leak(run([generation(str(at)) for at in range(20)], run_id="r7"))
    few = [answer(rng, at, "many" if at < 9 else "few") for at in range(12)]
    with pytest.raises(SpecbenchError, match=r"run r8 has too few prompts of m .*\(many 9, few 3\)"):
        leak(run(few, run_id="r8"))
    damaged = run(few, run_id="r9")
    with pytest.raises(StoreError, match="no leak of run r9: line 3 is missing"):
        leak(type(damaged)(damaged.manifest, damaged.generations, ("line 3 is missing",)))
