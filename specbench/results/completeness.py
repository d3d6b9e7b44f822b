"""Whether a stored run is whole: what its manifest says was written, against what its file holds."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence

from specbench.results.records import Generation, Manifest, Written

FILE = "generations.jsonl"
Answer = tuple[str, str, int, int]  # method, prompt, turn, repeat


def written(data: bytes) -> Written:
    """Count and hash of the lines of a `generations.jsonl`."""
    return Written(data.count(b"\n"), hashlib.sha256(data).hexdigest())


def faults(manifest: Manifest, generations: Sequence[Generation], found: Written) -> tuple[str, ...]:
    """What is missing, double or changed in a run's file, a sentence each; empty for a whole run.

    A run that goes on, or was killed, has no count to be held against; its doubles are named all the same.

    Args:
        found: what the file holds now.
    """
    known, run = manifest.generations, manifest.run_id
    if found == known:
        return ()
    counts, expected = Counter(map(_answer, generations)), list(_expected(manifest, generations))
    absent = [answer for answer in expected if answer not in counts]
    asked = known.count if known else len(expected)
    missing = asked - len(counts) if known else len(absent)
    told = []
    if missing > 0:
        told.append(f"{missing} of {asked} answers of run {run} are missing from {FILE}{_named(absent)}")
    elif missing < 0 and known:
        told.append(f"{FILE} of run {run} holds {len(counts)} answers, and the run wrote {asked}")
    told += _doubles(manifest, generations)
    if known and not told:
        told.append(f"{FILE} of run {run} is not as the run wrote it: its SHA-256 differs from the manifest's")
    return tuple(told)


def beyond_repair(manifest: Manifest, generations: Sequence[Generation], found: Written) -> str | None:
    """Why a run cannot go on with what its file holds; whole prompts that are missing can be asked again."""
    if double := _doubles(manifest, generations):
        return double[0]
    turns = Counter((each.method, each.prompt_id, each.repeat) for each in generations)
    for each in generations:
        if turns[each.method, each.prompt_id, each.repeat] != each.turns:
            return f"some turns of {each.method} on prompt {each.prompt_id} are missing from {FILE}"
    known = manifest.generations
    if known and found != known and found.count >= known.count:
        return faults(manifest, generations, found)[0]
    return None


def _doubles(manifest: Manifest, generations: Sequence[Generation]) -> list[str]:
    counts = Counter(map(_answer, generations))
    found = [answer for answer, count in counts.items() if count > 1]
    if not found:
        return []
    are = "answer is" if len(found) == 1 else "answers are"
    return [f"{len(found)} {are} more than once in {FILE} of run {manifest.run_id}{_named(found)}"]


def _expected(manifest: Manifest, generations: Sequence[Generation]) -> Iterator[Answer]:
    """Every answer of a finished run; nothing of others, which may have ended anywhere."""
    if manifest.status != "finished" or manifest.failures:
        return
    seen = {each.prompt_id: each.turns for each in generations}
    workload = manifest.profile.get("workload", {})
    for repeat in range(workload.get("repeats", 1) * workload.get("restarts", 1)):
        for prompt_id in manifest.prompt_ids:
            asked = manifest.turns.get(prompt_id)
            for turn in range(len(asked) if asked else seen.get(prompt_id, 1)):
                for method in manifest.methods:
                    yield method, prompt_id, turn, repeat


def _answer(each: Generation) -> Answer:
    return each.method, each.prompt_id, each.turn, each.repeat


def _named(answers: Sequence[Answer]) -> str:
    """The first of them in brackets, and how many more there are."""
    if not answers:
        return ""
    method, prompt_id, turn, repeat = answers[0]
    more = f", and {len(answers) - 1} more" if len(answers) > 1 else ""
    again = f", repeat {repeat + 1}" if repeat else ""
    return f" ({method} on prompt {prompt_id}, turn {turn + 1}{again}{more})"
