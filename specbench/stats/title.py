"""What was measured, for the title of every table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from specbench.precision import side_of
from specbench.results.records import Run
from specbench.stats import notes

PENALTIES = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
"""By key of `decoding`, the value that is off."""


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
        *_beside_temperature(first.profile["decoding"]),
    )


def _beside_temperature(decoding: Mapping[str, Any]) -> Iterator[str]:
    """What else changes or ends an answer: penalties, biases and stop strings, where they are set."""
    for key, off in PENALTIES.items():
        if (value := decoding.get(key, off)) != off:
            yield f"{key.replace('_', ' ')} {value:g}"
    if biases := decoding.get("logit_bias"):
        yield f"a bias on {len(biases)} token{'' if len(biases) == 1 else 's'}"
    if stop := decoding.get("stop"):
        yield f"stop {', '.join(json.dumps(text, ensure_ascii=False) for text in stop)}"


def _engine(runs: Sequence[Run]) -> str:
    """Which engine the models really had; a model that cannot be compiled runs eagerly."""
    asked = runs[0].manifest.profile["engine"]
    found = {role: kind for run in runs for role, kind in run.manifest.engines.items()}
    if len(set(found.values())) > 1:
        return " and ".join(f"{kind} {role}" for role, kind in sorted(found.items())) + " engine"
    invariant = ", batch-invariant" if asked.get("batch_invariant") else ""
    return f"{next(iter(found.values()), asked['kind'])} engine{invariant}"
