"""In which order a run asks."""

from __future__ import annotations

import random
from collections.abc import Iterable

from specbench.benchmark.preparation import Prepared
from specbench.results.records import Generation, Prompt


def in_order(prepared: Prepared, answered: Iterable[Generation]) -> list[tuple[int, Prompt, str]]:
    """Repeats, prompts and methods in a seeded order; every prompt is asked of all methods in a row.

    Args:
        answered: what an earlier sitting has done is left out.
    """
    workload = prepared.profile.workload
    done = {(record.method, record.prompt_id, record.repeat) for record in answered}
    units: list[tuple[int, Prompt, str]] = []
    for repeat in range(workload.repeats):
        prompts = list(prepared.prompts)
        random.Random(f"{workload.seed}/{repeat}").shuffle(prompts)
        for prompt in prompts:
            names = [method.name for method in prepared.methods]
            random.Random(f"{workload.seed}/{repeat}/{prompt.prompt_id}").shuffle(names)
            units.extend(
                (repeat, prompt, name) for name in names if (name, prompt.prompt_id, repeat) not in done
            )
    return units
