"""Whether answers are right where that can be checked, and whether they are answers at all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from specbench.benchmark.json_schemas import validator
from specbench.benchmark.prompt_lines import NUMBER
from specbench.results.derived import Quality
from specbench.results.records import Generation, Task
from specbench.stats.repetition import loop_warnings, loops
from specbench.stats.verdict import pairs

MARK = "####"
"""What GSM8K's answers write before their number."""
FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)
REFUSAL = re.compile(
    r"\s*(?:i'?m sorry|i am sorry|sorry|i apologi[sz]e|unfortunately|as an ai)\b.{0,60}?"
    r"\b(?:can(?:no|')?t|unable to|not able to|won'?t|will not|do not|don'?t)\b"
    r"|\s*i (?:can(?:no|')?t|am unable to|am not able to|won'?t|will not)\s+"
    r"(?:help|assist|answer|provide|comply|do that|fulfil)",
    re.IGNORECASE | re.DOTALL,
)
"""How an answer begins that declines to answer, in English."""


def task_score(task: Task, text: str) -> float:
    """The share of a task that a text gets right: 0 or 1, or the share of several answers that it contains."""
    if task.score == "number":
        found = NUMBER.findall(text.rpartition(MARK)[2])
        return float(bool(found) and _number(found[-1]) == _number(task.answers[0]))
    if task.score == "contains":
        return sum(answer.casefold() in text.casefold() for answer in task.answers) / len(task.answers)
    fenced = FENCED.search(text)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return 0.0
    if task.score == "schema":
        try:
            return float(validator(task.answers[0]).is_valid(value))
        except RecursionError:  # nested more deeply than can be checked, as above
            return 0.0
    return float(isinstance(value, (dict, list)))


def answer_score(record: Generation, tasks: Mapping[str, Task]) -> float | None:
    """The score of a stored answer; `None` where it is not checked: without a task, or before the last turn.

    Args:
        tasks: by prompt, what its last answer is checked for.
    """
    task = tasks.get(record.prompt_id)
    return task_score(task, record.text) if task and record.turn + 1 == record.turns else None


def is_wrong(record: Generation, tasks: Mapping[str, Task]) -> bool:
    """Whether a stored answer is checked, and not right in all that is asked of it."""
    score = answer_score(record, tasks)
    return score is not None and score < 1


def is_refusal(text: str) -> bool:
    """Whether a text declines to answer, by its first words."""
    return REFUSAL.match(text.replace("\u2019", "'")) is not None


def quality(records: Sequence[Generation], control: Sequence[Generation], tasks: Mapping[str, Task]) -> Quality:
    """How good a method's answers are, beside those of the control to the same questions.

    Args:
        control: of the control; nothing where there is none.
        tasks: by prompt, what its last answer is checked for.
    """
    known = [score for record in records if (score := answer_score(record, tasks)) is not None]
    both = [
        (answer_score(theirs, tasks), answer_score(ours, tasks)) for theirs, ours in pairs(control, records)
    ]
    judged = [(theirs, ours) for theirs, ours in both if theirs is not None and ours is not None]
    return Quality(
        scored=len(known),
        score=sum(known) / len(known) if known else None,
        worse=sum(ours < theirs for theirs, ours in judged) if judged else None,
        better=sum(ours > theirs for theirs, ours in judged) if judged else None,
        loops=sum(map(loops, records)) / len(records),
        refusals=sum(is_refusal(record.text) for record in records) / len(records),
    )


def text_warnings(groups: Sequence[tuple[str, Sequence[Generation]]]) -> Iterator[str]:
    """Warnings about rows whose texts are loops, or decline to answer.

    Args:
        groups: a row's name and its records.
    """
    yield from loop_warnings(groups)
    for name, records in groups:
        count = sum(is_refusal(record.text) for record in records)
        if count:
            yield (
                f"{count} of {len(records)} texts of {name} decline to answer: such texts are alike, so speed "
                "and acceptance say little about real answers"
            )


def _number(text: str) -> float:
    return float(text.replace(",", ""))
