"""What was measured, for the title of every table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from specbench.precision import side_of
from specbench.results.records import Run
from specbench.stats import notes

NUMBERS = {
    "temperature": ("temperature", 0.0), "top_p": ("top-p", 1.0), "top_k": ("top-k", 0),
    "min_p": ("min-p", 0.0), "repetition_penalty": ("repetition penalty", 1.0),
    "presence_penalty": ("presence penalty", 0.0), "frequency_penalty": ("frequency penalty", 0.0),
    "min_new_tokens": ("min_new_tokens", 0),
}  # fmt: skip
"""By key of `decoding`, its name in titles, and the value that is off."""


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
        *_choice(first.profile["decoding"]),
    )


def _choice(decoding: Mapping[str, Any]) -> Iterator[str]:
    """How tokens are chosen and answers end, where that is not greedy to the model's own stop tokens."""
    for key, (name, off) in NUMBERS.items():
        if (value := decoding.get(key, off)) != off:
            yield f"{name} {value:g}"
    if biases := decoding.get("logit_bias"):
        yield f"a bias on {len(biases)} token{'' if len(biases) == 1 else 's'}"
    if decoding.get("ignore_eos"):
        yield "stop tokens ignored"
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
