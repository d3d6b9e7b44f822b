"""Broken variants of every format: named by file and line, and never half-loaded."""

import json

import pytest
from mutations import FORMATS

from specbench.benchmark.workload import parse_prompts, read_prompts
from specbench.errors import SpecbenchError
from specbench.profile import load_profile
from specbench.prompts.formats import FORMATS as KNOWN
from specbench.prompts.preparing import Filters, prepare
from specbench.prompts.sources import choose_format, read_source

PROMPTS = {
    "spec_bench": "turns", "speed_bench": "turns", "mt_bench": "prompt", "gsm8k": "question",
    "humaneval": "prompt", "mbpp": "text", "cnn_dm": "article", "sharegpt": "conversations",
    "alpaca": "instruction", "oasst": "prompt", "messages": "messages", "text": "text",
}  # fmt: skip
"""The column that holds the prompt."""
LISTS = [name for name, column in PROMPTS.items() if isinstance(FORMATS[name][column], list)]
IDS = {name: KNOWN[name].ids[0] for name, row in FORMATS.items() if KNOWN[name].ids[0] in row}
IDS |= dict.fromkeys(("cnn_dm", "sharegpt"), "id")


def filled(value, text):
    """The prompt of a row with another text in all places where there is one."""
    if isinstance(value, str):
        return text
    if isinstance(value, list):
        return [filled(each, text) for each in value]
    return {key: text if key in ("text", "value", "content") else each for key, each in value.items()}


def second(name, text="Another?", **changes):
    """A second row of a format, different from the first."""
    column, row = PROMPTS[name], FORMATS[name]
    own = {IDS[name]: 2} if name in IDS else {}
    return {**row, **own, column: filled(row[column], text), **changes}


def lines(*rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def prepared(folder, data, ending="jsonl"):
    file = folder / f"rows.{ending}"
    file.write_bytes(data)
    source = read_source(str(file), None, None, None)
    prepare(
        source,
        *choose_format(source, None, None, None),
        Filters(),
        None,
        load_profile("default"),
        folder / "out",
    )
    return read_prompts(str(folder / "out"))


def refused(folder, data, words, ending="jsonl"):
    with pytest.raises(SpecbenchError) as caught:
        prepared(folder, data, ending)
    assert caught.value.message.startswith(f"{folder / 'rows'}.{ending}, {words}")
    assert list(folder.glob("out*")) == []


def test_every_format_has_a_row_here():
    assert FORMATS.keys() == KNOWN.keys() == PROMPTS.keys()


@pytest.mark.parametrize("name", FORMATS)
def test_a_byte_order_mark_and_other_line_ends_change_nothing(tmp_path, name):
    data = lines(FORMATS[name], second(name))
    plain = prepared(tmp_path, data)
    assert len(plain) == 2
    assert prepared(tmp_path, b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")) == plain


@pytest.mark.parametrize("name", FORMATS)
def test_a_line_that_is_no_text_or_no_record_is_named(tmp_path, name, monkeypatch):
    good, other = lines(FORMATS[name]), lines(second(name))
    refused(tmp_path, (good + other).decode().encode("utf-16"), "line 1: UTF-16")
    refused(tmp_path, (good + other).decode().encode("utf-16-le"), "line 1: holds a NUL byte")
    refused(tmp_path, good + other.replace(b"Another", b"An\0other"), "line 2: holds a NUL byte")
    refused(tmp_path, good + other.replace(b"Another", b"An\xf6ther"), "line 2: not UTF-8")
    refused(tmp_path, good + other[:-3], "line 2: not JSON")
    refused(tmp_path, good + b"[" + other[:-1] + b"]\n", "line 2: not a JSON object")
    monkeypatch.setattr("specbench.prompts.containers.LINE_BYTES_MAX", 1000)
    refused(tmp_path, good + lines(second(name, "x" * 2000)), "line 2: longer than 16 MB")


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_without_a_prompt_is_named(tmp_path, name):
    column = PROMPTS[name]
    for broken in (second(name, " "), second(name, 7), second(name, None), second(name, **{column: 7})):
        refused(tmp_path, lines(FORMATS[name], broken), "line 2: ")
    bare = second(name)
    del bare[column]
    said = f"{column} is missing" if column in KNOWN[name].columns else "prompt is empty"
    refused(tmp_path, lines(FORMATS[name], bare), f"line 2: {said}")


@pytest.mark.parametrize("name", LISTS)
def test_a_list_that_is_written_as_text_is_named(tmp_path, name):
    column = PROMPTS[name]
    nested = second(name, **{column: json.dumps(FORMATS[name][column])})
    refused(tmp_path, lines(FORMATS[name], nested), f"line 2: {column} is text that holds JSON")
    refused(tmp_path, lines(FORMATS[name], second(name, **{column: []})), f"line 2: {column} ")


@pytest.mark.parametrize("name", IDS)
def test_an_id_that_comes_twice_is_named(tmp_path, name):
    refused(tmp_path, lines(FORMATS[name], second(name, **{IDS[name]: 1})), "line 2: the id 1 appears twice")


@pytest.mark.parametrize(("name", "key"), [("messages", "role"), ("sharegpt", "from")])
def test_an_unknown_role_is_named(tmp_path, name, key):
    messages = [{**FORMATS[name][PROMPTS[name]][0], key: "boss"}]
    broken = second(name, **{PROMPTS[name]: messages})
    refused(tmp_path, lines(FORMATS[name], broken), "line 2: message 1 in ")


TABLE = "question,answer\nHow many?,#### 4\nAnd Zoë?,#### 5\n"
ARRAY = '[{"text": "Why?"},\n{"text": "And Zoë?"}]'
FILES = {
    "csv": TABLE,
    "tsv": TABLE.replace(",", "\t"),
    "json": ARRAY,
    "txt": "Why?\nAnd Zoë?\n",
    "md": "a\nZoë\n",
}


@pytest.mark.parametrize("ending", FILES)
def test_other_files_are_named_with_their_line_too(tmp_path, ending):
    text = FILES[ending]
    plain = prepared(tmp_path, text.encode(), ending)
    assert prepared(tmp_path, b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(), ending) == plain
    for made in tmp_path.glob("out*"):
        made.unlink()
    line = 1 + text[: text.index("Zo")].count("\n")
    refused(tmp_path, text.encode("utf-16"), "line 1: UTF-16", ending)
    refused(tmp_path, text.encode("latin-1"), f"line {line}: not UTF-8", ending)
    refused(tmp_path, text.replace("Zo", "Z\0").encode(), f"line {line}: holds a NUL byte", ending)


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_a_record_that_is_too_long_is_named_where_there_are_no_lines(tmp_path, monkeypatch, ending):
    monkeypatch.setattr("specbench.prompts.preparing.LINE_BYTES_MAX", 1000)
    text = FILES[ending].replace("Zoë", "x" * 2000)
    refused(tmp_path, text.encode(), f"{'item 2' if ending == 'json' else 'line 3'}: longer than", ending)


def test_a_run_refuses_a_line_that_is_too_long(monkeypatch):
    monkeypatch.setattr("specbench.benchmark.workload.LINE_BYTES_MAX", 1000)
    rows = [{"question_id": number, "category": "c", "turns": ["x" * 600 * number]} for number in (1, 2)]
    with pytest.raises(SpecbenchError, match="p, line 2: longer than 16 MB"):
        parse_prompts(lines(*rows), "p")
