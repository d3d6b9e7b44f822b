"""What a line of a prompts file may say beside its turns, read and written."""

from __future__ import annotations

import json
import re
from typing import Any

from specbench.errors import SpecbenchError
from specbench.profile.schema import demand_variables
from specbench.results.environment import is_encodable
from specbench.results.records import Prompt, Task

SCORES = ("number", "contains", "json")
NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
"""A number as people and models write it, thousands with commas or without."""
HALVES = "holds half of a character (a lone surrogate, \\ud800 to \\udfff)"
HALVES_HINT = "write the whole character, or both halves of its pair, such as \\ud83d\\ude00"


def as_line(prompt: Prompt) -> dict[str, Any]:
    """The object of a line, without what says nothing."""
    line: dict[str, Any] = {"question_id": prompt.prompt_id, "category": prompt.category, "turns": prompt.turns}
    others: dict[str, Any] = {
        "reference": prompt.references, "system": prompt.system, "prefill": prompt.prefill, "raw": prompt.raw,
        "chat_template_kwargs": prompt.chat_template_kwargs,
    }  # fmt: skip
    if prompt.task:
        others |= {"score": prompt.task.score, "answer": prompt.task.answers}
    return line | {key: value for key, value in others.items() if value not in (None, (), {})}


def read_form(value: dict[str, Any], place: str) -> dict[str, Any]:
    """The fields of a `Prompt` that say how it is put to the model.

    Raises:
        SpecbenchError: one of them is malformed; the message begins with `place`.
    """
    found: dict[str, Any] = {}
    for key in ("system", "prefill"):
        text = value.get(key)
        if text is not None and not isinstance(text, str):
            raise SpecbenchError(f"{place}: {key} is not text", f'such as "{key}": "..."')
        found[key] = text
    raw = value.get("raw")
    if raw is not None and not isinstance(raw, bool):
        raise SpecbenchError(f"{place}: raw is neither true nor false")
    variables = value.get("chat_template_kwargs") or {}
    if not isinstance(variables, dict):
        raise SpecbenchError(
            f"{place}: chat_template_kwargs is not an object",
            'such as "chat_template_kwargs": {"enable_thinking": false}',
        )
    tools = value.get("tools")
    if tools is not None:
        if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
            raise SpecbenchError(
                f"{place}: tools is not a list of objects", "write them as OpenAI's chat requests do"
            )
        variables = {**variables, "tools": tools}
    try:
        demand_variables(variables)
    except ValueError as error:
        raise SpecbenchError(f"{place}: chat_template_kwargs: {error}") from error
    found |= {"raw": raw, "chat_template_kwargs": variables}
    task = read_task(value, place)
    found_texts = {**found, "answer": task.answers if task else ()}
    for key, part in found_texts.items():
        if not is_encodable(json.dumps(part, ensure_ascii=False)):
            raise SpecbenchError(f"{place}: {key} {HALVES}", HALVES_HINT)
    return found | {"task": task}


def read_task(value: dict[str, Any], place: str) -> Task | None:
    """What the last answer is checked for; an answer without a score is somebody else's column.

    Raises:
        SpecbenchError: the two do not fit; the message begins with `place`.
    """
    score = value.get("score")
    if score is None:
        return None
    if score not in SCORES:
        raise SpecbenchError(f"{place}: score is {score!r}", f"it takes {', '.join(SCORES)}")
    given = value.get("answer")
    if score == "json":
        return Task(score)
    answers = given if isinstance(given, list) else [] if given is None else [given]
    texts = tuple(str(each) for each in answers if isinstance(each, (str, int, float)) and str(each).strip())
    if not texts or len(texts) < len(answers) or any(isinstance(each, bool) for each in answers):
        raise SpecbenchError(
            f"{place}: score {score} needs an answer: a text, a number, or a list of them",
            'such as "score": "contains", "answer": ["4711"]',
        )
    if score == "number" and (len(texts) > 1 or not NUMBER.fullmatch(texts[0].strip())):
        raise SpecbenchError(f"{place}: score number needs one number as its answer", 'such as "answer": 42')
    return Task(score, tuple(text.strip() for text in texts))
