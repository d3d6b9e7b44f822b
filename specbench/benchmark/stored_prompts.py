"""The prompts that a stored run asked, found again and held against the hash in its manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from specbench.benchmark.chat_form import ChatForm, read_template
from specbench.benchmark.workload import read_prompts
from specbench.errors import SpecbenchError
from specbench.profile import Workload, settings_hash
from specbench.profile.loading import validated
from specbench.results.records import Prompt, Run


def prompts_sha256(prompts: Iterable[Prompt], form: Callable[[Prompt], ChatForm]) -> str:
    """Hash of what is asked; two runs ask the same only where it is equal."""
    return settings_hash(
        [
            [each.prompt_id, each.category, *each.turns, *form(each).identity]
            + [[file.turn, file.kind, file.sha256] for file in each.files]
            for each in prompts
        ]
    )


def stored_prompts(run: Run) -> tuple[Prompt, ...] | None:
    """What a run asked, in its order: from its prompts file, or as its records have it.

    Returns:
        `None` where the file is gone or changed, and the records do not say how prompts were put.
    """
    manifest = run.manifest
    try:
        workload = validated(Workload, manifest.profile["workload"], f"the workload of run {manifest.run_id}")
        template = read_template(workload)
    except (SpecbenchError, KeyError):
        return None

    def form(prompt: Prompt) -> ChatForm:
        return ChatForm.of(workload, prompt, template)

    for prompts in _candidates(run, workload):
        if prompts_sha256(prompts, form) == manifest.prompts_sha256:
            return tuple(prompts)
    return None


def _candidates(run: Run, workload: Workload) -> Iterator[Sequence[Prompt]]:
    manifest = run.manifest
    try:
        known = {each.prompt_id: each for each in read_prompts(workload.prompts)}
    except SpecbenchError:
        known = {}
    if known.keys() >= set(manifest.prompt_ids):
        yield [known[name] for name in manifest.prompt_ids]
    categories = {each.prompt_id: each.category for each in run.generations}
    if categories.keys() >= set(manifest.prompt_ids) and manifest.turns.keys() >= set(manifest.prompt_ids):
        yield [
            Prompt(
                name,
                categories[name],
                manifest.turns[name],
                manifest.references.get(name, ()),
                task=manifest.tasks.get(name),
            )
            for name in manifest.prompt_ids
        ]
