"""Notes on runs against servers of other engines: what verifications cost, and what cannot be checked."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from specbench.results.records import Round, Run

CLASSES = 3
VERIFYING = {
    "vllm": "every verification reads the whole text again, because vLLM caches no prefix for prompt_logprobs",
    "llama.cpp": "every verification asks for a token behind each beginning of the draft, because llama-server "
    "tells nothing of a prompt's tokens; it reads them in one pass where it has a slot for each (--parallel)",
}


def server_notes(run: Run) -> list[str]:
    """Time of verifications by the number of tokens that were read, and what is not known."""
    manifest = run.manifest
    found = manifest.models.get("cloud") or {}
    kind = found.get("kind") or "openai"
    server = f"a {kind} server" + (f" ({found['version']})" if found.get("version") else "")
    notes = [
        f"the cloud of run {manifest.run_id} is {server}: its precision is declared, not audited, and a text "
        "that differs cannot be proven a tie, because its passes cannot be repeated",
        "cloud_baseline and the control are both the server's own streamed completion",
    ]
    rounds = [part for record in run.generations for part in record.rounds if part.prefilled]
    if rounds and kind in VERIFYING:
        notes.insert(0, f"{VERIFYING[kind]}: {', '.join(by_length(rounds))}")
    return notes


def by_length(rounds: Sequence[Round]) -> list[str]:
    """Median milliseconds of a verification, over thirds of the rounds by the tokens read."""
    ordered = sorted(rounds, key=lambda part: part.prefilled or 0)
    found = []
    for index in range(CLASSES):
        some = ordered[len(ordered) * index // CLASSES : len(ordered) * (index + 1) // CLASSES]
        if some:
            lengths = f"{some[0].prefilled} to {some[-1].prefilled} tokens"
            found.append(f"{statistics.median(part.verify_ms or 0.0 for part in some):.1f} ms for {lengths}")
    return found
