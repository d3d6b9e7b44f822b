"""Public data sets become prompts: each format's real shape, and what is wrong with a row named by its line."""

import json
from pathlib import Path

import pytest

from specbench.benchmark.workload import read_prompts
from specbench.errors import SpecbenchError
from specbench.profile import load_profile
from specbench.prompts.preparing import Filters, prepare, provenance_of
from specbench.prompts.sources import choose_format, read_source

SHAPES = {
    "spec_bench": ({"question_id": 7, "category": "qa", "turns": ["Why?", "And then?"]}, ["Why?", "And then?"]),
    "speed_bench": (
        {"question_id": "a", "category": "qa", "sub_category": "x", "turns": ["Why?"], "difficulty": "easy"},
        ["Why?"],
    ),
    "mt_bench": ({"prompt_id": 81, "category": "writing", "prompt": ["Why?"], "reference": []}, ["Why?"]),
    "gsm8k": ({"question": "How many?", "answer": "2 + 2 = 4\n#### 1,004"}, ["How many?"]),
    "sharegpt": (
        {"id": "x", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        ["Hi"],
    ),
    "messages": (
        {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}]},
        ["Hi"],
    ),
    "alpaca": ({"instruction": "Translate.", "input": "chat", "output": "cat"}, ["Translate.\n\nchat"]),
    "oasst": ({"message_tree_id": "t", "prompt": {"text": "Why?", "replies": []}}, ["Why?"]),
    "text": ({"text": "Why?"}, ["Why?"]),
}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def prepared(path: Path, out: Path, form=None, column=None, category=None, **filters):
    source = read_source(str(path), None, None, None)
    chosen = choose_format(source, form, column, category)
    return prepare(source, *chosen, Filters(**filters), None, load_profile("default"), out)


@pytest.mark.parametrize("name", SHAPES)
def test_a_format_is_told_by_its_columns(tmp_path, name):
    row, turns = SHAPES[name]
    made = prepared(write(tmp_path / "rows.jsonl", row), tmp_path / "out.jsonl")
    assert made.format == name
    assert list(read_prompts(str(tmp_path / "out.jsonl"))[0].turns) == turns


@pytest.mark.parametrize(
    ("name", "row", "words"),
    [
        (
            "humaneval",
            {"task_id": "HumanEval/0", "prompt": "def f():", "canonical_solution": "pass"},
            "def f():",
        ),
        (
            "mbpp",
            {"task_id": 2, "text": "Add.", "code": "", "test_list": ["assert f(1) == 2"]},
            "assert f(1) == 2",
        ),
        ("cnn_dm", {"id": "x", "article": "It rained.", "highlights": "Rain."}, "It rained."),
    ],
)
def test_a_task_is_put_in_words(tmp_path, name, row, words):
    made = prepared(write(tmp_path / "rows.jsonl", row), tmp_path / "out.jsonl")
    assert made.format == name
    assert read_prompts(str(tmp_path / "out.jsonl"))[0].turns[0].endswith(words)


def test_the_answer_behind_the_hashes_is_the_reference(tmp_path):
    prepared(write(tmp_path / "rows.jsonl", SHAPES["gsm8k"][0]), tmp_path / "out.jsonl")
    assert read_prompts(str(tmp_path / "out.jsonl"))[0].references == (("1004",),)


def test_masked_rows_and_repeated_prompts_are_left_out_and_counted(tmp_path):
    masked = {"text": "FULL BENCHMARK DATA SHOULD BE FETCHED FROM THE SOURCE USING SPECDEC_BENCH"}
    rows = write(tmp_path / "rows.jsonl", {"text": "a"}, {"text": "a"}, masked)
    made = prepared(rows, tmp_path / "out.jsonl")
    assert made.kept == 1
    assert made.dropped == {"repeated prompt": 1, "text not published with the data set": 1}


def test_a_table_gives_the_column_that_is_named(tmp_path):
    table = tmp_path / "rows.csv"
    table.write_text('\ufeffask,kind,note\r\n"one, two",a,x\r\nthree,b,y\r\n', encoding="utf-8", newline="")
    prepared(table, tmp_path / "out.jsonl", column="ask", category="kind")
    found = read_prompts(str(tmp_path / "out.jsonl"))
    assert [(each.turns, each.category) for each in found] == [(("one, two",), "a"), (("three",), "b")]


def test_parquet_is_read_like_any_table(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(
        pyarrow.table({"question": ["How many?"], "answer": ["#### 3"]}), tmp_path / "rows.parquet"
    )
    assert prepared(tmp_path / "rows.parquet", tmp_path / "out.jsonl").format == "gsm8k"


def test_a_folder_gives_a_prompt_a_file(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in ("b", "a"):
        (folder / f"{name}.txt").write_text(f"text {name}\nwith two lines")
    prepared(folder, tmp_path / "out.jsonl")
    found = read_prompts(str(tmp_path / "out.jsonl"))
    assert [(each.prompt_id, each.turns[0]) for each in found] == [
        ("a", "text a\nwith two lines"),
        ("b", "text b\nwith two lines"),
    ]


def test_a_sample_is_drawn_evenly_and_again_for_its_seed(tmp_path):
    rows = [{"question_id": n, "category": "ab"[n > 15], "turns": [f"q{n}"]} for n in range(20)]
    file = write(tmp_path / "rows.jsonl", *rows)
    draws = []
    for name, seed in (("1", 1), ("2", 1), ("3", 2)):
        prepared(file, tmp_path / f"{name}.jsonl", sample=6, seed=seed)
        found = read_prompts(str(tmp_path / f"{name}.jsonl"))
        assert sorted(each.category for each in found) == ["a"] * 3 + ["b"] * 3
        draws.append([each.prompt_id for each in found])
    assert draws[0] == draws[1] != draws[2]


def test_the_provenance_says_where_a_file_comes_from_without_a_path(tmp_path):
    prepared(write(tmp_path / "rows.jsonl", {"text": "a"}), tmp_path / "out.jsonl")
    text = provenance_of(tmp_path / "out.jsonl").read_text()
    assert str(tmp_path) not in text
    known = json.loads(text)
    assert known["source"] == "rows.jsonl"
    assert len(known["source_sha256"]) == len(known["sha256"]) == 64


LINES = {
    "not JSON": (b'{"text": "a"}\n{"text": \n', "line 2: not JSON"),
    "UTF-16": ('{"text": "a"}\n'.encode("utf-16"), "line 1: UTF-16"),
    "a NUL byte": (b'{"text": "a"}\n{"text": "b\0"}\n', "line 2: holds a NUL byte"),
    "Latin-1": (b'{"text": "a"}\n{"text": "\xe9"}\n', "line 2: not UTF-8"),
    "an empty turn": (b'{"messages": [{"role": "user", "content": " "}]}\n', "line 1: content is empty"),
    "an unknown role": (b'{"messages": [{"role": "boss", "content": "a"}]}\n', "has the role 'boss'"),
    "nested JSON": (b'{"messages": "[{}]"}\n', "line 1: messages is text that holds JSON"),
    "a missing column": (b'{"text": "a"}\n{"txt": "b"}\n', "line 2: text is missing"),
    "no object": (b'{"text": "a"}\n[1]\n', "line 2: not a JSON object"),
    "an id twice": (b'{"id": 1, "text": "a"}\n{"id": 1, "text": "b"}\n', "line 2: the id 1 appears twice"),
    "unknown columns": (b'{"x": 1}\n', "line 1: no known format has the columns x"),
    "nothing": (b"\n \n", "holds no prompts"),
}


@pytest.mark.parametrize("fault", LINES)
def test_a_broken_file_is_refused_whole_and_its_line_named(tmp_path, fault):
    data, words = LINES[fault]
    (tmp_path / "rows.jsonl").write_bytes(data)
    with pytest.raises(SpecbenchError, match=words):
        prepared(tmp_path / "rows.jsonl", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_line_without_end_is_refused_before_it_is_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("specbench.prompts.containers.LINE_BYTES_MAX", 1000)
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "a"}\n' + b"x" * 5000)
    with pytest.raises(SpecbenchError, match="line 2: longer than"):
        prepared(tmp_path / "rows.jsonl", tmp_path / "out.jsonl")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("rows.csv", b"a,b\n1,2\n3\n", "line 3: 1 cells where the first line names 2"),
        ("rows.csv", b'a\n"x\n', "line 2: unexpected end of data"),
        ("rows.csv", b"a,a\n1,2\n", "line 1: two columns have one name"),
        ("rows.json", b'{"a": 1}', "an object with 0 lists"),
        ("rows.json", b'["a", 3]', "item 2: not a JSON object"),
        ("rows.parquet", b"PAR0", "not a Parquet file"),
    ],
)
def test_other_broken_files_are_refused_too(tmp_path, name, data, words):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SpecbenchError, match=words):
        read_source(str(tmp_path / name), None, None, None)


def test_what_is_no_source_is_refused_with_the_names_that_are(tmp_path):
    with pytest.raises(SpecbenchError, match="neither a file") as refused:
        read_source("gsm9k", None, None, None)
    assert "gsm8k" in (refused.value.hint or "")
