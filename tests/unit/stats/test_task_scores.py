"""Answers that can be checked, and answers that are none."""

import json

import pytest
from builders import generation
from comparisons import CONTROL, request, run

from specbench.benchmark.prompt_lines import as_line
from specbench.benchmark.workload import parse_prompts
from specbench.errors import SpecbenchError
from specbench.render.tables import QUALITY_COLUMNS, quality_cells, score_text
from specbench.results.records import Prompt, Task
from specbench.stats.comparison import compare
from specbench.stats.task_scores import is_refusal, quality, task_score


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("17 * 23 is 391.", 1), ("391", 1), ("It is 391, not 400.", 0), ("about 3910", 0), ("-391", 0), ("", 0),
        ("The 2 sums give 391.00 dollars", 1), ("so far 12\n#### 391\nDone", 1), ("no number", 0),
    ],
)  # fmt: skip
def test_a_number_is_right_where_the_last_one_is(text, right):
    assert task_score(Task("number", ("391",)), text) == right


def test_numbers_are_compared_by_value():
    assert task_score(Task("number", ("1,004",)), "That makes 1004.0 in all") == 1
    assert task_score(Task("number", ("-2.5",)), "x = -2.50") == 1
    assert task_score(Task("number", ("4",)), "pick 3,4") == 1, "no thousands"


def test_of_several_answers_the_share_that_is_contained_counts():
    task = Task("contains", ("Jupiter", "Saturn", "4711"))
    assert task_score(task, "jupiter, and also 4711") == pytest.approx(2 / 3)
    assert task_score(task, "Mars") == 0


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ('{"a": 1}', 1), ("[1, 2]", 1), ('Here:\n```json\n{"a": [1]}\n```\nDone.', 1), ("42", 0), ('"a"', 0),
        ('{"a": 1', 0), ("```json\n{'a': 1}\n```", 0), ("[" * 100_000, 0),
    ],
)  # fmt: skip
def test_json_is_right_where_it_is_an_object_or_an_array(text, right):
    assert task_score(Task("json"), text) == right


def test_an_answer_that_is_nested_too_deeply_to_be_checked_is_not_right():
    task = Task("schema", ('{"type": "array", "items": {"$ref": "#"}}',))
    assert task_score(task, "[[[]]]") == 1
    assert task_score(task, "[" * 900 + "]" * 900) == 0


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I\u2019m sorry, I cannot share this.", True),
        ("As an AI language model, I am unable to have opinions.", True),
        ("I cannot assist with this request.", True),
        ("Sorry to hear that! Try turning it off and on.", False),
        ("I cannot recommend this film enough.", False),
        ("The printer can't print. I'm sorry, but it cannot be repaired.", False),
    ],
)
def test_a_refusal_is_known_by_how_it_begins(text, refuses):
    assert is_refusal(text) is refuses


def test_a_method_is_held_against_the_control_on_the_same_questions():
    tasks = {"1": Task("number", ("4",)), "2": Task("number", ("4",)), "3": Task("json")}
    control = [generation(name, text=text) for name, text in (("1", "4"), ("2", "5"), ("3", "{}"), ("4", "4"))]
    ours = [generation(name, text=text) for name, text in (("1", "7"), ("2", "4"), ("3", "[]"), ("4", "x"))]
    found = quality(ours, control, tasks)
    assert (found.scored, found.worse, found.better) == (3, 1, 1)
    assert found.score == pytest.approx(2 / 3)
    assert quality(ours, (), tasks).worse is None
    assert quality(ours, control, {}).score is None


def test_of_a_conversation_the_last_answer_is_checked():
    turns = [generation("1", turn=turn, turns=2, text=text) for turn, text in ((0, "4"), (1, "5"))]
    assert quality(turns, (), {"1": Task("number", ("4",))}).scored == 1
    assert quality(turns, (), {"1": Task("number", ("4",))}).score == 0


def test_a_comparison_shows_scores_and_warns_of_refusals_before_any_speed():
    records = [request(method, name, 40.0) for method in (CONTROL, "m") for name in ("1", "2")]
    texts = {CONTROL: ("4", "5"), "m": ("I'm sorry, but I can't say.", "5")}
    told = [
        type(each)(**{**vars(each), "text": texts[each.method][int(each.prompt_id) - 1]}) for each in records
    ]
    found = compare([run(told, tasks={"1": Task("number", ("4",)), "2": Task("number", ("5",))})])
    by_name = {row.method: row for row in found.methods}
    assert score_text(by_name[CONTROL]) == "100.0% of 2"
    assert (
        dict(zip(QUALITY_COLUMNS, quality_cells(by_name["m"]), strict=True))["worse than\nthe control"] == "1"
    )
    assert by_name["m"].quality.refusals == 0.5
    assert any("1 of 2 texts of m decline to answer" in line for line in found.warnings)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"score": "bleu"}, "score is 'bleu'"),
        ({"score": "number"}, "score number needs an answer"),
        ({"score": "number", "answer": "four"}, "score number needs one number"),
        ({"score": "number", "answer": [1, 2]}, "score number needs one number"),
        ({"score": "contains", "answer": []}, "score contains needs an answer"),
        ({"score": "contains", "answer": ["a", " "]}, "score contains needs an answer"),
        ({"score": "contains", "answer": True}, "score contains needs an answer"),
    ],
)
def test_a_line_that_cannot_be_checked_is_named(fields, message):
    line = json.dumps({"question_id": 1, "category": "c", "turns": ["a"], **fields}).encode()
    with pytest.raises(SpecbenchError, match=f"p, line 1: {message}"):
        parse_prompts(line, "p")


def test_tasks_are_written_as_they_are_read():
    for task in (Task("number", ("4",)), Task("contains", ("a", "b")), Task("json")):
        prompt = Prompt("1", "c", ("a",), task=task)
        assert parse_prompts(json.dumps(as_line(prompt)).encode(), "p") == [prompt]
    other = json.dumps({"question_id": 1, "category": "c", "turns": ["a"], "answer": {"any": "thing"}}).encode()
    assert parse_prompts(other, "p")[0].task is None, "somebody else's column"
