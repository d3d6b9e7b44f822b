"""What a line of a prompts file may say beside its turns, read and written."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import ValidationError

from specbench.benchmark.json_schemas import schema_fault
from specbench.errors import SpecbenchError
from specbench.profile import GrammarSpec
from specbench.profile.schema import demand_variables
from specbench.results.environment import is_encodable
from specbench.results.records import Prompt, Task
from specbench.speculation.grammar import obstacle_to

SCORES = ("number", "contains", "json", "schema")
LINE_BYTES_MAX = 16_000_000
"""Of a line, or of another form's record: whatever is longer is no prompt."""
NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
"""A number as people and models write it, thousands with commas or without."""
HINT = 'such as "grammar": {"regex": "[0-9]+"}, or {"json_schema": {"type": "object"}}'
HALVES = "holds half of a character (a lone surrogate, \\ud800 to \\udfff)"
HALVES_HINT = "write the whole character, or both halves of its pair, such as \\ud83d\\ude00"


def too_long(place: str) -> SpecbenchError:
    """The error about a line, or a record, of more than `LINE_BYTES_MAX`."""
    return SpecbenchError(
        f"{place}: longer than {LINE_BYTES_MAX // 1_000_000} MB",
        "write one record a line; a JSON array belongs in a .json file",
    )


def as_line(prompt: Prompt) -> dict[str, Any]:
    """The object of a line, without what says nothing."""
    turns: list[Any] = list(prompt.turns)
    for file in prompt.files:
        text = {"text": turns[file.turn]} if turns[file.turn] else {}
        turns[file.turn] = {file.kind: file.path, "sha256": file.sha256, **text}
    line: dict[str, Any] = {"question_id": prompt.prompt_id, "category": prompt.category, "turns": turns}
    others: dict[str, Any] = {
        "reference": prompt.references, "system": prompt.system, "prefill": prompt.prefill, "raw": prompt.raw,
        "chat_template_kwargs": prompt.chat_template_kwargs,
    }  # fmt: skip
    if prompt.task:
        others |= {"score": prompt.task.score, "answer": prompt.task.answers}
        if prompt.task.score == "schema":
            others["answer"] = json.loads(prompt.task.answers[0])
    line |= {key: value for key, value in others.items() if value not in (None, (), {})}
    return line if prompt.grammar is None else line | {"grammar": prompt.grammar}


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
    return found | {"task": task, "grammar": read_grammar(value, place)}


def read_grammar(value: dict[str, Any], place: str) -> dict[str, Any] | None:
    """What each answer to a line may be, as `Prompt` has it.

    Raises:
        SpecbenchError: it is no grammar; the message begins with `place`.
    """
    given = value.get("grammar")
    if not given:
        return None if given is None else {}
    try:
        kind, text = GrammarSpec.model_validate(given).definition
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, ("grammar", *first["loc"])))
        raise SpecbenchError(f"{place}: {where}: {first['msg'].removeprefix('Value error, ')}", HINT) from error
    if not is_encodable(text):
        raise SpecbenchError(f"{place}: grammar {HALVES}", HALVES_HINT)
    if reason := obstacle_to(kind, text):
        raise SpecbenchError(f"{place}: grammar.{kind}: {reason}", HINT)
    return dict(given)


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
    if score == "schema":
        return Task(score, (_schema(value, place),))
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


def _schema(value: dict[str, Any], place: str) -> str:
    """The schema that an answer is checked for: `answer`, or that of the line's grammar."""
    given = value.get("answer")
    if given is None and isinstance(value.get("grammar"), dict):
        given = value["grammar"].get("json_schema")
    if not isinstance(given, dict):
        raise SpecbenchError(
            f"{place}: score schema needs a JSON schema, in answer or in grammar",
            'such as "score": "schema", "answer": {"type": "object"}',
        )
    text = json.dumps(given, ensure_ascii=False)
    if reason := schema_fault(text):
        raise SpecbenchError(f"{place}: {reason}")
    return text
