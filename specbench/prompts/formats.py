"""The shapes in which public data sets write a prompt, told by the columns of a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from specbench.errors import SpecbenchError, nearest
from specbench.prompts.containers import TEXT_COLUMN, Row

MASKED = "FULL BENCHMARK DATA SHOULD BE FETCHED FROM THE SOURCE"
"""How SPEED-Bench's published rows begin whose text must be fetched from its own source."""

Turns = list[str]
Answers = list[list[str]]


class MalformedError(ValueError):
    """A row is not what its format says; the message has no place yet."""


@dataclass(frozen=True)
class Format:
    """One shape of rows.

    Args:
        columns: a row that has all of them is in this format.
        turns: the user's messages of a row.
        answers: accepted answers of each turn, where the format has answers that can be checked.
        category: the column that names a prompt's category, or else the category of all.
        ids: columns that may hold a row's id, the first one first.
        dataset: the hub's id of the data set that has this shape, with its configuration and split.
        license: of that data set.
        score: what the last answer is checked for, as of a `Task`; `answers` hold what it is checked against.
    """

    columns: tuple[str, ...]
    turns: Callable[[Mapping[str, Any]], Turns]
    category: str
    ids: tuple[str, ...] = ("question_id", "id")
    answers: Callable[[Mapping[str, Any]], Answers] | None = None
    dataset: tuple[str, str | None, str] | None = None
    license: str | None = None
    score: str | None = None


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise MalformedError(f"{column} is empty or not text")
    return value


def _column(column: str) -> Callable[[Mapping[str, Any]], Turns]:
    return lambda row: [_text(row, column)]


def _list(column: str) -> Callable[[Mapping[str, Any]], Turns]:
    def turns(row: Mapping[str, Any]) -> Turns:
        value = row[column]
        if isinstance(value, str) and value.lstrip().startswith("["):
            raise MalformedError(f"{column} is text that holds JSON; write the list itself")
        if not isinstance(value, list) or not value:
            raise MalformedError(f"{column} is not a list of texts")
        for turn in value:
            if not isinstance(turn, str) or not turn.strip():
                raise MalformedError(f"a turn in {column} is empty or not text")
        return value

    return turns


def _references(row: Mapping[str, Any]) -> Answers:
    value = row.get("reference") or []
    if not isinstance(value, list):
        raise MalformedError("reference is not a list of texts")
    answers = [[each] if isinstance(each, str) else each for each in value]
    if not all(isinstance(each, list) and all(isinstance(text, str) for text in each) for each in answers):
        raise MalformedError("reference is not a list of texts")
    return answers


def _final_number(row: Mapping[str, Any]) -> Answers:
    """GSM8K's answer: what stands behind `####`."""
    number = _text(row, "answer").rpartition("####")[2].strip().replace(",", "")
    return [[number]]


def _spoken(
    column: str, role: str, text: str, roles: Mapping[str, str]
) -> Callable[[Mapping[str, Any]], Turns]:
    """The user's messages of a conversation; answers and system messages are left out."""

    def turns(row: Mapping[str, Any]) -> Turns:
        value = row[column]
        if isinstance(value, str):
            raise MalformedError(f"{column} is text that holds JSON; write the list itself")
        if not isinstance(value, list):
            raise MalformedError(f"{column} is not a list of messages")
        found = []
        for number, message in enumerate(value, start=1):
            said = message.get(role) if isinstance(message, dict) else message
            if not isinstance(message, dict) or not isinstance(said, str) or said not in roles:
                raise MalformedError(
                    f"message {number} in {column} has the role {said!r}; known are {', '.join(roles)}"
                )
            if roles[said] == "user":
                found.append(_text(message, text))
        if not found:
            raise MalformedError(f"{column} has no message of the user")
        return found

    return turns


def _instruction(row: Mapping[str, Any]) -> Turns:
    given = row.get("input") or ""
    return ["\n\n".join(part for part in (_text(row, "instruction"), str(given)) if part.strip())]


def _summary(row: Mapping[str, Any]) -> Turns:
    return [f"Summarize this article in three sentences.\n\n{_text(row, 'article')}"]


def _program(row: Mapping[str, Any]) -> Turns:
    return [f"Complete this Python function. Answer with the whole function.\n\n{_text(row, 'prompt')}"]


def _tested(row: Mapping[str, Any]) -> Turns:
    task = _text(row, "text" if "text" in row else "prompt")
    tests = row.get("test_list") or []
    if not isinstance(tests, list):
        raise MalformedError("test_list is not a list")
    return ["\n".join([task, "Your code must pass these tests:", *map(str, tests)])]


def _tree(row: Mapping[str, Any]) -> Turns:
    """OASST's tree of messages: its first prompt, without the replies."""
    prompt = row["prompt"]
    if not isinstance(prompt, dict):
        raise MalformedError("prompt is not a message")
    return [_text(prompt, "text")]


CHAT_ROLES = {"user": "user", "system": "", "developer": "", "assistant": "", "tool": ""}
SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "",
    "chatgpt": "",
    "bing": "",
    "bard": "",
    "system": "",
}

FORMATS = {
    "spec_bench": Format(("question_id", "category", "turns"), _list("turns"), "category", answers=_references),
    "speed_bench": Format(
        ("question_id", "category", "sub_category", "turns"),
        _list("turns"),
        "category",
        dataset=("nvidia/SPEED-Bench", "qualitative", "test"),
        license="NVIDIA Evaluation Dataset License",
    ),
    "mt_bench": Format(
        ("prompt_id", "category", "prompt"),
        _list("prompt"),
        "category",
        ("prompt_id",),
        _references,
        ("HuggingFaceH4/mt_bench_prompts", None, "train"),
        "Apache-2.0",
    ),
    "gsm8k": Format(
        ("question", "answer"),
        _column("question"),
        "math",
        answers=_final_number,
        dataset=("openai/gsm8k", "main", "test"),
        license="MIT",
        score="number",
    ),
    "humaneval": Format(
        ("task_id", "prompt", "canonical_solution"),
        _program,
        "code",
        ("task_id",),
        dataset=("openai/openai_humaneval", None, "test"),
        license="MIT",
    ),
    "mbpp": Format(
        ("task_id", "code", "test_list"),
        _tested,
        "code",
        ("task_id",),
        dataset=("google-research-datasets/mbpp", None, "test"),
        license="CC-BY-4.0",
    ),
    "cnn_dm": Format(
        ("article", "highlights"),
        _summary,
        "summarization",
        dataset=("abisee/cnn_dailymail", "3.0.0", "test"),
        license="Apache-2.0",
    ),
    "sharegpt": Format(("conversations",), _spoken("conversations", "from", "value", SHAREGPT_ROLES), "chat"),
    "alpaca": Format(
        ("instruction", "output"),
        _instruction,
        "instruction",
        dataset=("tatsu-lab/alpaca", None, "train"),
        license="CC-BY-NC-4.0",
    ),
    "oasst": Format(("message_tree_id", "prompt"), _tree, "chat", ("message_tree_id",), license="Apache-2.0"),
    "messages": Format(("messages",), _spoken("messages", "role", "content", CHAT_ROLES), "chat"),
    "text": Format((TEXT_COLUMN,), _column(TEXT_COLUMN), "text"),
}
"""By the name that `--format` gives them. A row is of the format with the most of its columns."""


def find_format(rows: list[Row]) -> str:
    """The name of the format that the first row is in.

    Raises:
        SpecbenchError: it has the columns of none.
    """
    first = rows[0].value
    fitting = [name for name, each in FORMATS.items() if first.keys() >= set(each.columns)]
    if not fitting:
        raise SpecbenchError(
            f"{rows[0].place}: no known format has the columns {', '.join(sorted(map(str, first)))}",
            "name the column that holds the prompt: --column NAME",
        )
    return max(fitting, key=lambda name: len(FORMATS[name].columns))


def lookup(name: str) -> Format:
    """A format by its name.

    Raises:
        SpecbenchError: there is none of that name.
    """
    if name not in FORMATS:
        raise SpecbenchError(f"unknown format: {name}", nearest(name, FORMATS))
    return FORMATS[name]


def from_column(column: str, category: str | None) -> Format:
    """A format whose prompt is the text of one column."""
    return Format((column,), _column(column), category or "text", ("id", "question_id"))
