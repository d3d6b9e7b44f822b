"""Prompts: the built-in ones, Spec-Bench's format, and lines that are not."""

import json
from collections import Counter
from importlib import metadata

import pytest

from specbench.benchmark.prompt_lines import as_line
from specbench.benchmark.workload import load_prompts, parse_prompts, stratified
from specbench.errors import SpecbenchError
from specbench.profile import Workload
from specbench.stats.task_scores import task_score


def row(**fields):
    return json.dumps({"question_id": 1, "category": "qa", "turns": ["why?"]} | fields)


def test_the_builtin_prompts_are_six_categories_of_eight():
    prompts = load_prompts(Workload(limit=None))
    assert Counter(prompt.category for prompt in prompts) == dict.fromkeys(
        ["conversation", "translation", "summarization", "qa", "math_reasoning", "rag"], 8
    )
    assert any(len(prompt.turns) > 1 for prompt in prompts)


def test_a_limit_takes_from_every_category_in_turn():
    prompts = load_prompts(Workload(limit=12))
    assert set(Counter(prompt.category for prompt in prompts).values()) == {2}


def test_a_limit_beyond_the_prompts_takes_all():
    prompts = parse_prompts(row().encode(), "p")
    assert stratified(prompts, 100) == prompts


def test_spec_bench_lines_are_read_as_they_are():
    text = row(question_id=81, turns=["one", "two"], reference=["x"]) + "\r\n\n" + row(question_id="q")
    first, second = parse_prompts(b"\xef\xbb\xbf" + text.encode(), "p")
    assert (first.prompt_id, first.turns, second.prompt_id) == ("81", ("one", "two"), "q")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "p is empty"),
        (b"\n\n", "p is empty"),
        (row().encode() + b"\n{broken\n", "p, line 2: not JSON"),
        (row().encode() + b"\n\xff\n", "p, line 2: not UTF-8"),
        (b"[" * 100_000, "p, line 1: not JSON"),
        (b"[]", "p, line 1: not a JSON object"),
        (b'{"question_id": 1, "turns": ["a"]}', "p, line 1: category is missing"),
        (row(turns=[]).encode(), "p, line 1: turns is not a list"),
        (row(turns="why").encode(), "p, line 1: turns is not a list"),
        (row(turns=["a", " "]).encode(), "p, line 1: a turn is empty"),
        (row(turns=[3]).encode(), "p, line 1: a turn is empty or not text"),
        (row(category=4).encode(), "p, line 1: category is not text"),
        (row(question_id=None).encode(), "p, line 1: question_id"),
        ((row() + "\n" + row()).encode(), "p, line 2: question_id 1 appears twice"),
    ],
)
def test_a_malformed_file_names_the_line(data, message):
    with pytest.raises(SpecbenchError, match=message):
        parse_prompts(data, "p")


def test_a_missing_file_is_named():
    with pytest.raises(SpecbenchError, match=r"nowhere\.jsonl cannot be read"):
        load_prompts(Workload(prompts="nowhere.jsonl"))


def test_references_are_read_turn_by_turn():
    lines = [
        row(question_id=1, turns=["a", "b"], reference=["x", ""]),
        row(question_id=2, reference=[["x", "y"]]),
        row(question_id=3, reference=None),
        row(question_id=4, reference=[""]),
    ]
    prompts = parse_prompts("\n".join(lines).encode(), "p")
    assert [prompt.references for prompt in prompts] == [(("x",), ()), (("x", "y"),), (), ()]


@pytest.mark.parametrize("reference", ["x", [3], [["x", 3]]])
def test_a_malformed_reference_names_the_line(reference):
    with pytest.raises(SpecbenchError, match="p, line 1: reference is not a list of texts"):
        parse_prompts(row(reference=reference).encode(), "p")


def test_a_line_may_say_what_its_answers_can_be_and_is_written_as_it_was_read():
    schema = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "string"}}}
    lines = [
        row(question_id=1, grammar={"regex": "[0-9]+"}),
        row(question_id=2, grammar={}),
        row(question_id=3),
        row(question_id=4, score="schema", grammar={"json_schema": schema}),
        row(question_id=5, score="schema", answer={"type": "array"}),
    ]
    prompts = parse_prompts("\n".join(lines).encode(), "p")
    assert [prompt.grammar for prompt in prompts] == [
        {"regex": "[0-9]+"}, {}, None, {"json_schema": schema}, None,
    ]  # fmt: skip
    again = "\n".join(json.dumps(as_line(prompt)) for prompt in prompts).encode()
    assert parse_prompts(again, "p") == prompts
    assert task_score(prompts[3].task, '{"b": 1}') == task_score(prompts[4].task, "[]") == 1
    assert task_score(prompts[3].task, '{"b": "x"}') == task_score(prompts[4].task, "{}") == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"grammar": "[0-9]+"}, "grammar: Input should be a valid dictionary"),
        ({"grammar": {"regex": "a", "lark": "start: /a/"}}, "grammar: a grammar is exactly one of json_schema"),
        ({"grammar": {"gbnf": "x"}}, "grammar.gbnf: Extra inputs are not permitted"),
        ({"grammar": {"regex": "(a"}}, "grammar.regex: .*unclosed group"),
        ({"grammar": {"regex": ""}}, "grammar.regex: String should have at least 1 character"),
        ({"grammar": {"lark": "start: nothing"}}, "grammar.lark: .*nothing"),
        ({"grammar": {"json_schema": {"type": "objet"}}}, "grammar.json_schema: .*objet"),
        ({"grammar": {"json_schema": {"dependentSchemas": {}}}}, "grammar.json_schema: .*dependentSchemas"),
        ({"score": "schema"}, "score schema needs a JSON schema"),
        ({"score": "schema", "answer": {"type": 3}}, "it is no JSON schema: 3 is not"),
        ({"score": "schema", "answer": {"$ref": "http://a/b"}}, "the JSON schema refers to http://a/b"),
        ({"score": "schema", "answer": {"$dynamicRef": "http://a/b"}}, "the JSON schema refers to http://a/b"),
        ({"score": "schema", "answer": {"$ref": "#"}}, "the JSON schema refers to itself without end"),
        ({"score": "schema", "answer": {"pattern": "(a"}}, "it is no JSON schema: .* is not a .regex"),
    ],
)
def test_a_grammar_that_is_none_names_the_line(fields, message):
    data = f"{row()}\n{row(question_id=2, **fields)}".encode()
    with pytest.raises(SpecbenchError, match=f"^p, line 2: {message}"):
        parse_prompts(data, "p")


def test_without_llguidance_a_grammar_names_what_to_install(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(SpecbenchError, match="llguidance, which is not installed") as caught:
        parse_prompts(row(grammar={"regex": "a"}).encode(), "p")
    assert caught.value.hint == "pip install 'specbench[grammar]'"
