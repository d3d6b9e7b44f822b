"""What becomes of an architecture: it works, or is refused with a sentence."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from specbench.benchmark.new_manifest import new_manifest
from specbench.benchmark.preparation import Prepared, prepare
from specbench.benchmark.runner import Runner
from specbench.errors import SpecbenchError
from specbench.profile import load_profile
from specbench.registry import discover
from specbench.results.records import CONTROL, Run
from specbench.results.store import RunStore

SPECULATIVE = "speculative"
WORKS, REFUSED, NOT_COMPILED, NOT_TRIED = "works", "refused", "no", "not tried"
EAGER = {"engine.kind": "eager"}
SAMPLED = {**EAGER, "decoding.temperature": 0.8, "speculative.verification": "coupled"}
COMPILED = {"engine.kind": "compiled"}
INVARIANT = {**COMPILED, "engine.batch_invariant": True}
BUDGET = 24
PROMPT = "Once upon a time there was a fox who lived in a small house."
TIED = 1e-4
"""Of the largest logit: rounding in float32 decides between tokens that are no further apart."""


@dataclass(frozen=True)
class Outcome:
    """What a user meets.

    Args:
        kind: the model's class, where it could be loaded.
        sentence: why something is refused.
        uncompiled: why the compiled engine does not run it, or not so that rows do not depend on the width.
    """

    kind: str | None
    control: str
    speculative: str
    sentence: str = ""
    compiled: str = REFUSED
    invariant: str = REFUSED
    uncompiled: str = ""


class Silent:
    """Watches a run, and says nothing of it."""

    def note(self, *seen: object) -> None:
        """Nothing."""

    started = advanced = failed = note


def outcome(folder: Path, compiles: bool) -> Outcome:
    """Have a pair decode as `specbench run` does, and hold its texts against a loop without a cache.

    Args:
        compiles: whether the compiled engine is tried too, which takes a minute.

    Raises:
        AssertionError: a text is wrong, or a method failed where it should have been refused.
    """
    try:
        prepared, run = _run(folder, (CONTROL, SPECULATIVE))
    except SpecbenchError as refusal:
        sentence = _sentence(refusal.message, folder)
    else:
        if prepared.cloud.engine.state:
            _demand_same_draws(folder)
        found = Outcome(_check(prepared, run), WORKS, WORKS)
        return _with_compiled(folder, found) if compiles else _untried(found)
    try:
        prepared, run = _run(folder, (CONTROL,))
    except SpecbenchError as refusal:
        return Outcome(None, REFUSED, REFUSED, _sentence(refusal.message, folder))
    found = Outcome(_check(prepared, run), WORKS, REFUSED, sentence)
    return _with_compiled(folder, found) if compiles else _untried(found)


def _untried(found: Outcome) -> Outcome:
    return replace(found, compiled=NOT_TRIED, invariant=NOT_TRIED)


def _demand_same_draws(folder: Path) -> None:
    """Demand that a state that is restored gives the control's text where tokens are drawn, too."""
    _, run = _run(folder, (CONTROL, SPECULATIVE), SAMPLED)
    assert not run.manifest.failures, run.manifest.failures
    assert {found.verdict for found in run.manifest.divergences} <= {"tie"}, run.manifest.divergences
    assert any(part.replayed_tokens is not None for record in run.generations for part in record.rounds)


def _with_compiled(folder: Path, found: Outcome) -> Outcome:
    """What the compiled engine makes of an architecture that decodes eagerly."""
    try:
        prepared, run = _run(folder, (CONTROL,), INVARIANT)
    except SpecbenchError as refusal:
        varies = _sentence(refusal.message, folder).partition("cannot be batch-invariant: ")[2]
    else:
        _check(prepared, run)
        return replace(found, compiled=WORKS, invariant=WORKS)
    prepared, run = _run(folder, (CONTROL,), COMPILED)
    _check(prepared, run)
    if prepared.cloud.engine_kind == "compiled":
        return replace(found, compiled=WORKS, invariant=NOT_COMPILED, uncompiled=varies)
    reason = _sentence(prepared.cloud.engine_note, folder).partition("cannot be compiled: ")[2]
    return replace(found, compiled=NOT_COMPILED, invariant=NOT_COMPILED, uncompiled=reason)


def _run(folder: Path, methods: Sequence[str], engine: Mapping[str, object] = EAGER) -> tuple[Prepared, Run]:
    prompts = folder / "prompts.jsonl"
    prompts.write_text(json.dumps({"question_id": 1, "category": "c", "turns": [PROMPT]}) + "\n")
    settings = {
        "cloud.model": folder / "target", "edge.model": folder / "draft", "edge.vocab_map": "null",
        "cloud.device": "cpu", "workload.prompts": prompts, "workload.max_new_tokens": BUDGET,
        "workload.warmup": 0, **engine,
    }  # fmt: skip
    profile = load_profile("default", [f"{key}={value}" for key, value in settings.items()])
    known = discover()
    prepared = prepare(profile, [known.get(name) for name in methods])
    store = RunStore(folder / "runs")
    manifest = new_manifest(prepared, store.new_id(), "zoo", (), {})
    return prepared, Runner(prepared, manifest, store.create(manifest), Silent()).run()


def _sentence(text: str, folder: Path) -> str:
    """What was said, with the models' paths as roles."""
    for path, role in ((folder / "target", "TARGET"), (folder / "draft", "DRAFT")):
        text = text.replace(str(path), role)
    assert "\n" not in text
    return text


def _check(prepared: Prepared, run: Run) -> str:
    """Demand texts as they should be; returns the class of the model."""
    assert not run.manifest.failures, run.manifest.failures
    assert not run.manifest.precision_problems, run.manifest.precision_problems
    texts = {generation.method: list(generation.tokens) for generation in run.generations}
    control = texts[CONTROL]
    prompt = list(prepared.request(prepared.prompts[0], 0, 0, ()).prompt_ids)
    behind = _behind(prepared, prompt, control)
    for position, token in enumerate(control):
        assert _is_top(behind[position], token), f"the control is wrong at token {position}"
    other = texts.get(SPECULATIVE, control)
    for position, (ours, theirs) in enumerate(zip(control, other, strict=False)):
        if ours != theirs:
            assert _is_top(behind[position], theirs), f"{SPECULATIVE} differs at token {position}"
            break
    else:
        assert len(control) == len(other)
    return type(prepared.cloud.engine.loaded.model).__name__


@torch.inference_mode()
def _behind(prepared: Prepared, prompt: list[int], text: list[int]) -> list[torch.Tensor]:
    """Logits behind every prefix of a text, each by one pass over all of it, without a cache."""
    model, size = prepared.cloud.engine.loaded.model, prepared.cloud.engine.vocabulary_size
    passes = (torch.tensor([prompt + text[:count]]) for count in range(len(text)))
    return [model(input_ids=ids, use_cache=False).logits[0, -1, :size] for ids in passes]


def _is_top(logits: torch.Tensor, token: int) -> bool:
    return bool(logits.max() - logits[token] <= TIED * logits.abs().max())
