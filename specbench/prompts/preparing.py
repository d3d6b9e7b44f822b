"""From rows of any known shape to a prompts file in Spec-Bench's format, with its provenance beside it."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from specbench import __version__
from specbench.atomic import write_bytes, write_json
from specbench.benchmark.prompt_lines import (
    HALVES,
    HALVES_HINT,
    LINE_BYTES_MAX,
    as_line,
    read_form,
    read_task,
    too_long,
)
from specbench.benchmark.workload import parse_prompts, stratified
from specbench.errors import ExitCode, SpecbenchError
from specbench.profile import Profile
from specbench.prompts.containers import Row
from specbench.prompts.formats import FORMATS, MASKED, Format, MalformedError
from specbench.prompts.lengths import TokenCounter
from specbench.prompts.sources import Source
from specbench.results.environment import is_encodable
from specbench.results.records import Prompt

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Filters:
    """Which prompts are kept.

    Args:
        min_tokens: of the longest turn, as the tokenizer counts them without a chat template; `max_tokens` too.
        sample: prompts at most, the same number from each category as far as it has so many.
        seed: of the draw.
    """

    min_tokens: int | None = None
    max_tokens: int | None = None
    sample: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Provenance:
    """Where a prompts file comes from; it stands beside it as `FILE.provenance.json`.

    Args:
        source: file name or data set.
        revision: of the data set, where one was named.
        source_sha256: of the source file's bytes; `None` for a data set or a folder.
        read: rows of the source. `dropped` counts those left out, by reason.
        sha256: of the prompts file.
    """

    source: str
    revision: str | None
    license: str | None
    source_sha256: str | None
    format: str
    filters: Filters
    tokenizer: str | None
    read: int
    kept: int
    dropped: dict[str, int]
    sha256: str = ""
    specbench_version: str = __version__


def prepare(
    source: Source, name: str, form: Format, filters: Filters, license: str | None, profile: Profile, out: Path
) -> Provenance:
    """Convert, filter and write a source's rows.

    Args:
        name: of the format, for the provenance.
        license: to be noted; by default that of a known data set.
        profile: its target's tokenizer counts tokens, where a filter asks for their number.

    Raises:
        SpecbenchError: a row is malformed, no prompt is left, or the file cannot be written.
    """
    prompts, dropped = convert(source.rows, form)
    bounded = filters.min_tokens is not None or filters.max_tokens is not None
    counter = TokenCounter.of(profile) if bounded else None
    kept, filtered = select(prompts, filters, counter)
    provenance = Provenance(
        source=source.name,
        revision=source.revision,
        license=license or source.license,
        source_sha256=source.sha256,
        format=name,
        filters=filters,
        tokenizer=counter.name if counter else None,
        read=len(source.rows),
        kept=len(kept),
        dropped=dict(dropped + filtered),
    )
    return write(kept, provenance, out)


def convert(rows: Sequence[Row], form: Format) -> tuple[list[Prompt], Counter[str]]:
    """Rows as prompts, in their order; masked rows and repeated prompts are left out and counted.

    Raises:
        SpecbenchError: a row is malformed; the message names its line.
    """
    prompts: dict[tuple[str, ...], Prompt] = {}
    dropped: Counter[str] = Counter()
    ids: set[str] = set()
    for number, row in enumerate(rows, start=1):
        missing = [column for column in form.columns if column not in row.value]
        if missing:
            raise SpecbenchError(
                f"{row.place}: {missing[0]} is missing", "all rows must have the columns of the first one"
            )
        try:
            turns = form.turns(row.value)
            answers = form.answers(row.value) if form.answers else []
        except MalformedError as error:
            raise SpecbenchError(f"{row.place}: {error}") from error
        if any(turn.startswith(MASKED) for turn in turns):
            dropped["text not published with the data set"] += 1
        elif tuple(turns) in prompts:
            dropped["repeated prompt"] += 1
        else:
            name = _id(row, form, number)
            if name in ids:
                raise SpecbenchError(
                    f"{row.place}: the id {name} appears twice", "give each row an id of its own"
                )
            ids.add(name)
            category = str(row.value.get(form.category) or form.category)
            prompt = Prompt(
                name, category, tuple(turns), tuple(map(tuple, answers)), **_others(row, form, answers)
            )
            line = json.dumps(as_line(prompt), ensure_ascii=False)
            if len(line) > LINE_BYTES_MAX:
                raise too_long(row.place)
            if not is_encodable(line):
                raise SpecbenchError(f"{row.place}: {HALVES}", HALVES_HINT)
            prompts[prompt.turns] = prompt
    return list(prompts.values()), dropped


def _others(row: Row, form: Format, answers: Sequence[Sequence[str]]) -> dict[str, Any]:
    """What else a prompt says: of a line in our own format all of it."""
    if form is FORMATS["spec_bench"]:
        return read_form(row.value, row.place)
    known = {"score": form.score, "answer": list(answers[-1])} if form.score and answers else {}
    return {"task": read_task(known, row.place)}


def _id(row: Row, form: Format, number: int) -> str:
    known = [row.value[column] for column in form.ids if row.value.get(column) not in (None, "")]
    return str(known[0]) if known else str(number)


def select(
    prompts: list[Prompt], filters: Filters, counter: TokenCounter | None
) -> tuple[list[Prompt], Counter[str]]:
    """The prompts that the filters keep, in their order, and how many were left out for which reason."""
    dropped: Counter[str] = Counter()
    kept = prompts
    if counter and (filters.min_tokens is not None or filters.max_tokens is not None):
        longest = {each.prompt_id: max(counter.count(turn) for turn in each.turns) for each in prompts}
        low, high = filters.min_tokens or 0, filters.max_tokens or max(longest.values(), default=0)
        dropped["too short"] = sum(tokens < low for tokens in longest.values())
        dropped["too long"] = sum(tokens > high for tokens in longest.values())
        kept = [each for each in prompts if low <= longest[each.prompt_id] <= high]
    if filters.sample is not None and filters.sample < len(kept):
        shuffled = random.Random(filters.seed).sample(kept, len(kept))
        drawn = {each.prompt_id for each in stratified(shuffled, filters.sample)}
        dropped["not drawn"] = len(kept) - len(drawn)
        kept = [each for each in kept if each.prompt_id in drawn]
    return kept, +dropped


def write(prompts: Sequence[Prompt], provenance: Provenance, out: Path) -> Provenance:
    """Write the prompts file and its provenance; both are whole or not there.

    Raises:
        SpecbenchError: no prompt is left, or a file cannot be written.
    """
    if not prompts:
        reasons = ", ".join(f"{count} {reason}" for reason, count in provenance.dropped.items())
        raise SpecbenchError(f"no prompt is left of {provenance.source} ({reasons})", "loosen the filters")
    data = "".join(json.dumps(as_line(each), ensure_ascii=False) + "\n" for each in prompts).encode()
    parse_prompts(data, str(out))
    provenance = replace(provenance, sha256=hashlib.sha256(data).hexdigest())
    try:
        write_bytes(out, data)
    except OSError as error:
        raise SpecbenchError(f"{out} cannot be written: {error.strerror}", exit_code=ExitCode.STORE) from error
    write_json(provenance_of(out), {"schema_version": SCHEMA_VERSION, **asdict(provenance)})
    return provenance


def provenance_of(out: Path) -> Path:
    """The name of the file that says where a prompts file comes from."""
    return out.with_name(f"{out.name}.provenance.json")
