"""A run whose answers follow grammars, from the prompts' lines to the notes of its comparison."""

import json
import re

import pytest
from stores import stored

SCHEMA = {
    "type": "object",
    "properties": {"size": {"enum": ["small", "large"]}, "count": {"enum": [7, 12, 120]}},
    "required": ["size", "count"],
    "additionalProperties": False,
    "x-guidance": {"whitespace_flexible": False},
}
FORMS = {"question_id": 1, "category": "form", "turns": ["how many?"], "score": "schema"}
LINES = [
    {**FORMS, "grammar": {"json_schema": SCHEMA}},
    {"question_id": 2, "category": "form", "turns": ["yes?", "no?"], "grammar": {"regex": "(yes|no)\\."}},
    {"question_id": 3, "category": "talk", "turns": ["tell me a story"]},
]


@pytest.fixture
def asked(tmp_path):
    path = tmp_path / "forms.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return path


def run(specbench, path, asked, *words):
    return specbench("run", "speculative", "prompt_lookup", "--profile", path, "--prompts", asked, *words)


@pytest.mark.parametrize("placement", ["in_process", pytest.param("process", marks=pytest.mark.slow)])
def test_answers_follow_their_lines_and_notes_tell_forced_tokens_apart(
    specbench, profile, asked, tmp_path, placement
):
    path = profile(cloud={"placement": placement})
    done = run(specbench, path, asked, "--max-new-tokens", "40", "--json")
    assert done.code == 0, done.err
    found = stored(tmp_path)
    assert found.manifest.remarks[-1] == "the answers to 2 of 3 prompts follow a grammar (json_schema, regex)"
    for record in found.generations:
        if record.prompt_id == "1":
            assert json.loads(record.text)["size"] in ("small", "large")
        if record.prompt_id == "2":
            assert re.fullmatch(r"(yes|no)\.", record.text)
        assert record.complete is (None if record.prompt_id == "3" else True)
    row = done.json["methods"]["speculative"]
    assert row["exact_match"] == 1
    assert row["quality"]["score"] == 1
    assert (row["grammar"]["answers"], row["grammar"]["complete"]) == (3, 3)
    assert 0 < row["grammar"]["forced_share"] < 1
    assert any(note.startswith("the grammar forced") and "speculative" in note for note in done.json["notes"])
    assert done.json["methods"]["cloud_optimized_baseline"]["grammar"]["forced_share"] is None


def test_a_budget_that_ends_in_the_middle_is_said(specbench, profile, asked, tmp_path):
    done = run(specbench, profile(), asked, "--max-new-tokens", "4", "--json")
    assert done.code == 0, done.err
    cut = "1 of 3 answers of speculative end in the middle of their grammar"
    assert any(note.startswith(cut) for note in done.json["notes"])


def test_the_profiles_grammar_is_for_lines_without_one(specbench, profile, asked, tmp_path):
    done = run(specbench, profile(), asked, "--set", "workload.grammar.regex='[ab]{3}c'")
    assert done.code == 0, done.err
    story = [record.text for record in stored(tmp_path).generations if record.prompt_id == "3"]
    assert len(set(story)) == 1
    assert re.fullmatch("[ab]{3}c", story[0])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["decoding.ignore_eos=true"], "prompt 1 has a grammar, and decoding.ignore_eos lets no answer end"),
        (["decoding.min_new_tokens=3"], "decoding.min_new_tokens keeps a complete answer from ending"),
        (["cloud.backend=openai", "cloud.placement=http://127.0.0.1:9"], "openai is not told of grammars"),
    ],
)
def test_what_no_answer_by_a_grammar_can_do_is_refused(specbench, profile, asked, settings, reason):
    done = run(specbench, profile(), asked, *[word for each in settings for word in ("--set", each)])
    assert done.code == 3
    assert reason in done.err


def test_a_trace_refuses_a_grammar(specbench, profile, asked, tmp_path):
    path = profile(workload={"prompts": str(asked)})
    done = specbench("trace", "--out", tmp_path / "t.json", "--profile", path)
    assert done.code == 2
    assert "prompt 1 has a grammar: a trace does not say which tokens it forces" in done.err


@pytest.mark.slow
def test_many_edges_on_one_server_keep_to_their_grammars(specbench, profile, models, asked):
    path = profile(
        edge={"model": str(models / "draft"), "dtype": "float64"},
        cloud={"model": str(models / "target"), "device": "cpu", "dtype": "float64",
               "batch": {"sessions": 3, "wait_ms": 20}},
        workload={"prompts": str(asked), "max_new_tokens": 30},
    )  # fmt: skip
    done = specbench("load", "--edges", 3, "--requests", 6, "--profile", path, "--json")
    assert done.code == 0, done.err
    assert len({row["tokens"] for row in done.json["rows"]}) == 1
    assert {(row["ties"], row["departed"]) for row in done.json["rows"]} == {(0, 0)}
