"""What was measured, for the title of every table."""

from __future__ import annotations

from collections.abc import Sequence

from specbench.precision import side_of
from specbench.results.records import Run
from specbench.stats import notes


def settings(runs: Sequence[Run]) -> tuple[str, ...]:
    """What was measured, for the title of every table, after `place`."""
    first, threads = runs[0].manifest, runs[0].manifest.threads
    workload = first.profile["workload"]
    prompts = len({name for run in runs for name in run.manifest.prompt_ids})
    return (
        f"edge {side_of(first, 'edge')}, cloud {side_of(first, 'cloud')}",
        _engine(runs),
        f"{threads} thread{'' if threads == 1 else 's'}",
        f"{prompts} prompt{'' if prompts == 1 else 's'}, at most {workload['max_new_tokens']} tokens each"
        + "".join(dict.fromkeys(f", {told}" for run in runs if (told := notes.chances(run.manifest)))),
    )


def _engine(runs: Sequence[Run]) -> str:
    """Which engine the models really had; a model that cannot be compiled runs eagerly."""
    asked = runs[0].manifest.profile["engine"]
    found = {role: kind for run in runs for role, kind in run.manifest.engines.items()}
    if len(set(found.values())) > 1:
        return " and ".join(f"{kind} {role}" for role, kind in sorted(found.items())) + " engine"
    invariant = ", batch-invariant" if asked.get("batch_invariant") else ""
    return f"{next(iter(found.values()), asked['kind'])} engine{invariant}"
