"""What a vLLM server costs and cannot show, for whoever reads a table of it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from specbench.results.records import Round, Run

CLASSES = 3


def vllm_notes(run: Run) -> list[str]:
    """That a verification prefills, what it took by the length of the text, and what is not known."""
    manifest = run.manifest
    version = (manifest.models.get("cloud") or {}).get("version")
    server = f"a vLLM server ({version})" if version else "a vLLM server"
    notes = [
        f"the cloud of run {manifest.run_id} is {server}: its precision is declared and was not seen, and no "
        "departure from the control's text can be proven a tie, for its passes cannot be repeated",
        "cloud_baseline and the control are both the server's own streamed completion",
    ]
    rounds = [part for record in run.generations for part in record.rounds if part.prefilled]
    if rounds:
        notes.insert(
            0,
            "every verification prefills its whole text, for prompt_logprobs bypasses vLLM's prefix cache: "
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
