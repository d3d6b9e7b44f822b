"""Damaged prompt files and profiles: bytes cut, doubled and swapped, values of other kinds in their places."""

import copy
import json
import random
from collections.abc import Sequence

FORMATS = {
    "spec_bench": {
        "question_id": 1,
        "category": "qa",
        "turns": ["Why?", "And then?"],
        "reference": [["x"], ""],
    },
    "speed_bench": {"question_id": 1, "category": "qa", "sub_category": "x", "turns": ["Why?"]},
    "mt_bench": {"prompt_id": 1, "category": "writing", "prompt": ["Why?"], "reference": []},
    "gsm8k": {"question": "How many?", "answer": "#### 4"},
    "humaneval": {"task_id": 1, "prompt": "def f():", "canonical_solution": "pass"},
    "mbpp": {"task_id": 1, "text": "Add.", "code": "", "test_list": ["assert f(1) == 2"]},
    "cnn_dm": {"id": 1, "article": "It rained.", "highlights": "Rain."},
    "sharegpt": {
        "id": 1,
        "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
    },
    "alpaca": {"instruction": "Translate.", "input": "chat", "output": "cat"},
    "oasst": {"message_tree_id": 1, "prompt": {"text": "Why?", "replies": []}},
    "messages": {"messages": [{"role": "user", "content": "Hi 😀"}, {"role": "assistant", "content": "Oh"}]},
    "text": {"text": "Why?"},
}
"""A row of each format."""
OURS = [
    FORMATS["spec_bench"],
    {
        "question_id": "one",
        "category": "qa",
        "turns": ["How many?"],
        "system": "Be brief.",
        "prefill": "It is",
        "raw": False,
        "tools": [{"name": "clock", "parameters": {"type": "object"}}],
        "chat_template_kwargs": {"enable_thinking": False},
        "score": "number",
        "answer": "1,004",
    },
    {
        "question_id": 2,
        "category": "raw",
        "turns": ["Once"],
        "raw": True,
        "score": "contains",
        "answer": ["a", 4],
    },
    {"question_id": 3, "category": "form", "turns": ["A list."], "score": "json", "system": "", "prefill": "["},
]
"""Lines in our own format, with every key that they may have."""
SETTINGS = {
    "workload": {
        "system": "Be brief.", "prefill": "It is", "chat_template": None, "chat_template_kwargs": {"tools": []},
        "max_new_tokens": 8, "limit": 2, "repeats": 1, "seed": 0,
    },
    "decoding": {
        "temperature": 0.7, "top_p": 0.9, "top_k": 4, "min_p": 0.1, "repetition_penalty": 1.1,
        "presence_penalty": 0.5, "frequency_penalty": 0.5, "logit_bias": {"4": -3.0}, "min_new_tokens": 2,
        "ignore_eos": True, "stop": ["\n\n", "The end"],
    },
    "speculative": {"draft_length": 4, "window": 1, "verification": "coupled", "synthetic_acceptance": [0.8]},
}  # fmt: skip
"""Parts of a profile that say how prompts are asked and answered."""
PARTS = (
    b"\0", b"\r\n", b"\xef\xbb\xbf", b"\xff\xfe", b'"', b"[", b"{", b"null", b"1e999", b"\\ud800", b",", b"\n",
    b"\\u0000", b"&a", b"*a", b"9" * 5000,
)  # fmt: skip
STRANGE = (
    None, True, 0, -1, 1e308, float("inf"), float("nan"), 10**30, "", " ", "\0", "\ud800", "\u2028",
    "\u00e9" * 40, [], {}, [[]], [None], {"a": None}, {"": 1}, {"messages": 1}, "[1]", "{}", [{"role": "user"}],
    "####", "-", "1,0,0", ["", "x"], "{{ raise_exception('no') }}", "{% for", "<|user|>", [True], "number", 0.5,
)  # fmt: skip


def mutated(data: bytes, draw: random.Random) -> bytes:
    """The bytes with a few cuts, repeats, swaps and insertions."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
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


def estranged(value, draw: random.Random):
    """The value with one of its parts replaced by a strange one, taken out, doubled or put into a list."""
    changed = copy.deepcopy(value)
    holder, key = None, None
    here = changed
    while isinstance(here, (dict, list)) and here and (holder is None or draw.random() < 0.6):
        key = draw.choice(list(here)) if isinstance(here, dict) else draw.randrange(len(here))
        holder, here = here, here[key]
    kind = draw.randrange(6)
    if holder is None or kind == 0:
        return draw.choice(STRANGE) if holder is None else _without(changed, holder, key)
    holder[key] = [here, here] if kind == 1 else {"a": here} if kind == 2 else draw.choice(STRANGE)
    return changed


def _without(changed, holder, key):
    del holder[key]
    return changed


def damaged_rows(draw: random.Random, of: Sequence[dict]) -> bytes:
    """A file of JSON lines: one row, or two, or one more than once, with values or bytes exchanged.

    Args:
        of: rows to draw from.
    """
    rows = draw.sample(of, 1) * draw.choice((1, 1, 2, 3))
    if draw.random() < 0.2:
        rows += draw.sample(of, 1)
    damage = draw.randrange(4)
    if damage:
        rows = [estranged(row, draw) if draw.random() < 0.7 else row for row in rows]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return mutated(data, draw) if damage < 2 else data
