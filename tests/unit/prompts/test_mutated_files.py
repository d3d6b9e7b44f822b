"""Prompt files that something damaged: read, or refused in a sentence, and never a traceback."""

import json
import random

import pytest

from specbench.benchmark.workload import read_prompts
from specbench.errors import SpecbenchError
from specbench.profile import load_profile
from specbench.prompts.preparing import Filters, prepare
from specbench.prompts.sources import choose_format, read_source

ROWS = [
    {
        "question_id": 1,
        "category": "qa",
        "turns": ["Why is the sky blue?", "And at night?"],
        "reference": [["x"]],
    },
    {
        "question_id": 1,
        "category": "qa",
        "turns": ["How many?"],
        "system": "Be brief.",
        "prefill": "It is",
        "raw": False,
        "tools": [{"name": "clock"}],
        "chat_template_kwargs": {"enable_thinking": False},
        "score": "number",
        "answer": "1,004",
    },
    {"messages": [{"role": "user", "content": "Hi \ud83d\ude00"}, {"role": "assistant", "content": "Hello"}]},
    {"question": "How many?", "answer": "#### 4"},
    {"conversations": [{"from": "human", "value": "Hi"}]},
    {"message_tree_id": "t", "prompt": {"text": "Why?"}},
    {"instruction": "Translate.", "input": "chat", "output": "cat"},
]
PARTS = [
    b"\0",
    b"\r\n",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b'"',
    b"[",
    b"{",
    b"null",
    b"1e999",
    b"\\ud800",
    b",",
    b"\n",
]


def mutated(data: bytes, draw: random.Random) -> bytes:
    """The bytes with a few cuts, repeats, swaps and insertions."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(changed) + 1)
        kind = draw.randrange(4)
        if kind == 0:
            changed[place:place] = draw.choice(PARTS)
        elif kind == 1:
            del changed[place : place + draw.randint(1, 20)]
        elif kind == 2:
            changed[place:place] = changed[: draw.randint(1, 40)]
        elif changed:
            changed[min(place, len(changed) - 1)] = draw.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_mutated_file_is_read_or_refused(tmp_path, count):
    draw, profile = random.Random(count), load_profile("default")
    out, endings = tmp_path / "out.jsonl", ("jsonl", "json", "csv", "txt")
    read = refused = 0
    for number in range(count):
        rows = draw.sample(ROWS, 1) * draw.randint(1, 3)
        file = tmp_path / f"rows.{endings[number % 4]}"
        file.write_bytes(mutated("".join(json.dumps(row) + "\n" for row in rows).encode(), draw))
        try:
            source = read_source(str(file), None, None, None)
            prepare(source, *choose_format(source, None, None, None), Filters(sample=2), None, profile, out)
            read_prompts(str(out))
            read += 1
        except SpecbenchError:
            refused += 1
    assert read > count / 10
    assert refused > count / 10
