"""Finished runs made by hand, as a runner leaves them in a store."""

from dataclasses import replace

from comparisons import pair, run

from specbench.benchmark.chat_form import ChatForm
from specbench.benchmark.stored_prompts import prompts_sha256
from specbench.results.records import Prompt

PROMPTS = [Prompt(str(number), "c0", (f"question {number}?",)) for number in range(12)]


def add_run(store, run_id="r1", factor=1.5, **fields):
    """A run as a runner leaves it; `factor` is how much faster `m` is than the control."""
    records = [
        replace(each, arrival_ms=tuple(map(float, each.arrival_ms))) for each in pair(12, factor, jitter=0.05)
    ]
    asked = {each.prompt_id: each.turns for each in PROMPTS}
    made = run(
        records,
        run_id,
        prompt_ids=tuple(asked),
        turns=asked,
        prompts_sha256=prompts_sha256(PROMPTS, lambda prompt: ChatForm()),
        **fields,
    ).manifest
    writer = store.create(replace(made, status="running"))
    writer.append(records)
    writer.write_manifest(replace(made, generations=writer.written()))
    writer.lock.release()
    return run_id
