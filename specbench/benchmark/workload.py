"""Which prompts are asked: the built-in ones or a JSONL file in Spec-Bench's format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from itertools import zip_longest
from pathlib import Path

from specbench.benchmark.prompt_files import read_turns
from specbench.benchmark.prompt_lines import HALVES, HALVES_HINT, LINE_BYTES_MAX, as_line, read_form, too_long
from specbench.errors import SpecbenchError, StoreError
from specbench.profile import Profile, Workload
from specbench.profile.loading import with_changes
from specbench.profile.schema import BUILTIN
from specbench.results.environment import expanded, is_encodable
from specbench.results.records import Prompt

KEPT = "prompts"  # a folder beside the runs


def load_prompts(workload: Workload) -> list[Prompt]:
    """The workload's prompts, `limit` of them, drawn from all categories in turn.

    Raises:
        SpecbenchError: the file cannot be read, has no prompts, or a line is malformed.
    """
    return stratified(read_prompts(workload.prompts), workload.limit)


def with_prompts(profile: Profile, prompts: Sequence[str | Prompt] | str | Path | None, runs: Path) -> Profile:
    """The profile with other prompts, all of them; texts are kept in a file beside the runs, to go on with.

    Raises:
        SpecbenchError: a prompt is empty or no text, or the folder cannot be written.
    """
    if prompts is None:
        return profile
    if not isinstance(prompts, (str, Path)):
        rows = [
            each if isinstance(each, Prompt) else Prompt(str(number), "prompt", (each,))
            for number, each in enumerate(prompts, start=1)
        ]
        data = "".join(json.dumps(as_line(row)) + "\n" for row in rows).encode()
        parse_prompts(data, "prompts")
        prompts = runs.absolute() / KEPT / f"{hashlib.sha256(data).hexdigest()[:16]}.jsonl"
        try:
            prompts.parent.mkdir(parents=True, exist_ok=True)
            prompts.write_bytes(data)
        except OSError as error:
            raise StoreError(f"{prompts} cannot be written: {error.strerror}") from error
    return with_changes(profile, settings={"workload.prompts": str(prompts), "workload.limit": None})


def limit_remark(workload: Workload, asked: int, there: int) -> str | None:
    """That only some of the prompts are asked, where that is so."""
    source = "built-in prompts" if workload.prompts == BUILTIN else f"prompts in {workload.prompts}"
    return f"{asked} of {there} {source} are used (workload.limit)" if asked < there else None


def read_prompts(source: str) -> list[Prompt]:
    """All prompts of a file, or the built-in ones.

    Raises:
        SpecbenchError: the file cannot be read, has no prompts, or a line is malformed.
    """
    if source == BUILTIN:
        return parse_prompts(_builtin(), "the built-in prompts")
    name, path = f"prompts file {source}", expanded(source)
    try:
        return parse_prompts(path.read_bytes(), name, path.absolute().parent)
    except OSError as error:
        raise SpecbenchError(f"{name} cannot be read: {error.strerror}") from error


def parse_prompts(data: bytes, name: str, folder: Path | None = None) -> list[Prompt]:
    """Prompts of a JSONL text: `question_id`, `category` and `turns` on each line, and what else it may say.

    Args:
        folder: where paths of images and sounds begin; they are not looked for without it.

    Raises:
        SpecbenchError: naming the line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        bad = data[: error.start].count(b"\n") + 1
        raise SpecbenchError(f"{name}, line {bad}: not UTF-8", "save it as UTF-8") from error
    prompts: dict[str, Prompt] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if len(line) > LINE_BYTES_MAX:
            raise too_long(f"{name}, line {number}")
        prompt = _parse_line(line, f"{name}, line {number}", folder)
        if prompt.prompt_id in prompts:
            raise SpecbenchError(f"{name}, line {number}: question_id {prompt.prompt_id} appears twice")
        prompts[prompt.prompt_id] = prompt
    if not prompts:
        raise SpecbenchError(f"{name} is empty", "write one JSON object per line, as in Spec-Bench")
    return list(prompts.values())


def stratified(prompts: list[Prompt], limit: int | None) -> list[Prompt]:
    """The first prompt of every category, then the second, until there are `limit`."""
    if limit is None or limit >= len(prompts):
        return prompts
    by_category: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_category.setdefault(prompt.category, []).append(prompt)
    turns = zip_longest(*by_category.values())
    return [prompt for turn in turns for prompt in turn if prompt is not None][:limit]


def _builtin() -> bytes:
    return (resources.files("specbench.benchmark") / "prompts.jsonl").read_bytes()


def _parse_line(line: str, place: str, folder: Path | None) -> Prompt:
    hint = 'a line is {"question_id": 1, "category": "qa", "turns": ["..."]}'
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SpecbenchError(f"{place}: not JSON ({error})", hint) from error
    if not isinstance(value, dict):
        raise SpecbenchError(f"{place}: not a JSON object", hint)
    for key in ("question_id", "category", "turns"):
        if key not in value:
            raise SpecbenchError(f"{place}: {key} is missing", hint)
    for key in ("question_id", "category", "turns", "reference"):
        if not is_encodable(json.dumps(value.get(key), ensure_ascii=False)):
            raise SpecbenchError(f"{place}: {key} {HALVES}", HALVES_HINT)
    turns = value["turns"]
    if not isinstance(value["question_id"], (int, str)) or isinstance(value["question_id"], bool):
        raise SpecbenchError(f"{place}: question_id is neither a number nor text", hint)
    if not isinstance(value["category"], str) or not value["category"]:
        raise SpecbenchError(f"{place}: category is not text", hint)
    if not isinstance(turns, list) or not turns:
        raise SpecbenchError(f"{place}: turns is not a list of texts", hint)
    turns, files = read_turns(turns, place, hint, folder)
    references = _references(value.get("reference"), place)
    form = read_form(value, place)
    name = str(value["question_id"])
    return Prompt(name, value["category"], turns, references[: len(turns)], files=files, **form)


def _references(value: object, place: str) -> tuple[tuple[str, ...], ...]:
    """Accepted answers by turn: Spec-Bench gives each turn a text, or a list of texts, or an empty text."""
    turns = []
    for part in value if isinstance(value, list) else [] if value is None else [None]:
        texts = [part] if isinstance(part, str) else part
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise SpecbenchError(f"{place}: reference is not a list of texts", 'such as "reference": ["..."]')
        turns.append(tuple(text for text in texts if text.strip()))
    return tuple(turns) if any(turns) else ()
