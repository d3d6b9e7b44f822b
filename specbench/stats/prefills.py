"""Notes on runs against a vLLM server: what its verifications cost, and what cannot be checked."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from specbench.results.records import Round, Run

CLASSES = 3


def vllm_notes(run: Run) -> list[str]:
    """Notes on a run against vLLM: time of verifications by length of the text, and what is not known."""
    manifest = run.manifest
    version = (manifest.models.get("cloud") or {}).get("version")
    server = f"a vLLM server ({version})" if version else "a vLLM server"
    notes = [
        f"the cloud of run {manifest.run_id} is {server}: its precision is declared, not audited, and a text "
        "that differs cannot be proven a tie, because its passes cannot be repeated",
        "cloud_baseline and the control are both the server's own streamed completion",
    ]
    rounds = [part for record in run.generations for part in record.rounds if part.prefilled]
    if rounds:
        notes.insert(
            0,
            "every verification reads the whole text again, because vLLM caches no prefix for prompt_logprobs: "
            + ", ".join(by_length(rounds)),
        )
    return notes


def by_length(rounds: Sequence[Round]) -> list[str]:
    """Median milliseconds of a verification, over thirds of the rounds by the length of the text."""
    ordered = sorted(rounds, key=lambda part: part.prefilled or 0)
    found = []
    for index in range(CLASSES):
        some = ordered[len(ordered) * index // CLASSES : len(ordered) * (index + 1) // CLASSES]
        if some:
            lengths = f"{some[0].prefilled} to {some[-1].prefilled} tokens"
            found.append(f"{statistics.median(part.verify_ms or 0.0 for part in some):.1f} ms for {lengths}")
    return found
