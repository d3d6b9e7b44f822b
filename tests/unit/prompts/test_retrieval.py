"""Long prompts whose answers are known."""

import json

import pytest

from specbench.benchmark.workload import read_prompts
from specbench.errors import SpecbenchError
from specbench.prompts.retrieval import lengths_of, retrieval
from specbench.stats.task_scores import task_score


def words(text):
    return len(text.split())


@pytest.mark.parametrize("needles", [1, 3])
def test_a_prompt_has_its_length_and_its_codes_spread_over_the_text(needles):
    source = retrieval([120, 600], needles, 1, words)
    assert [row.value["category"] for row in source.rows] == ["retrieval-120"] * 12 + ["retrieval-600"] * 12
    for row in source.rows:
        (text,), codes = row.value["turns"], row.value["answer"]
        length = int(row.value["category"].removeprefix("retrieval-"))
        assert length - 25 < words(text) <= length
        assert [text.count(code) for code in codes] == [1] * needles
        places = [text.index(code) / len(text) for code in codes]
        assert places == sorted(places)
        for number, place in enumerate(places):
            assert place == pytest.approx((number + 0.5) / needles, abs=0.25)
        asked = text.rpartition("What is the code of")[2]
        assert all(f"the {name}" in asked for name in _named(text, codes))


def _named(text, codes):
    return [text.partition(f" is {code}.")[0].rpartition("The code of the ")[2] for code in codes]


def test_a_seed_decides_the_texts_and_no_two_are_equal():
    first, again, other = (retrieval([200], 2, seed, words).rows for seed in (1, 1, 2))
    assert first == again
    texts = [row.value["turns"][0] for row in (*first, *other)]
    assert len({*texts}) == 24


def test_the_command_writes_prompts_that_are_scored_by_their_codes(specbench, profile, tmp_path):
    out = tmp_path / "long.jsonl"
    asked = ("prompts", "prepare", "retrieval", "--tokens", "700,900", "--needles", "2", "--sample", "6",
             "--profile", profile(), "--out", out)  # fmt: skip
    done = specbench(*asked)
    assert done.code == 0, done.err
    prompts = read_prompts(str(out))
    assert [each.category for each in prompts].count("retrieval-700") == 3
    assert len(prompts) == 6
    task = prompts[0].task
    assert task_score(task, f"They are {task.answers[1]} and {task.answers[0]}.") == 1
    assert task_score(task, f"It is {task.answers[1]}.") == 0.5
    noted = json.loads((tmp_path / "long.jsonl.provenance.json").read_text())
    assert noted["source"] == "retrieval (700, 900 tokens, 2 needles)"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["retrieval", "--tokens", "20"], "20 tokens have no room for 3 needles"),
        (["retrieval", "--tokens", "9,x"], "is no list of different lengths"),
        (["retrieval", "--column", "a"], "--column has no effect with retrieval"),
        (["gsm8k", "--needles", "2"], "--needles has no effect with the source gsm8k"),
    ],
)
def test_what_makes_no_sense_is_refused(specbench, profile, tmp_path, words, message):
    done = specbench("prompts", "prepare", *words, "--profile", profile(), "--out", tmp_path / "out.jsonl")
    assert done.code != 0
    assert message in done.err
    assert not (tmp_path / "out.jsonl").exists()


def test_lengths_are_a_list():
    assert lengths_of("1024, 2048") == [1024, 2048]
    with pytest.raises(SpecbenchError):
        lengths_of("1024,1024")
