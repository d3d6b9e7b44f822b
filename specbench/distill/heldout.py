"""How well a draft predicts its target on prompts that no training text came from."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from specbench.atomic import replacing
from specbench.benchmark.workload import parse_prompts
from specbench.distill.student import Student
from specbench.distill.text import TextMaker
from specbench.distill.text_jobs import Job, Turn
from specbench.results.records import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DRAFT_LENGTH = 4
ALL = "all"


def heldout_prompts() -> list[Prompt]:
    """The sixty hand-written prompts, ten of each task."""
    data = (resources.files("specbench.distill") / "heldout.jsonl").read_bytes()
    return parse_prompts(data, "the held-out prompts")


def write_answers(path: Path, maker: TextMaker, prompts: Sequence[Prompt], answer_tokens: int) -> None:
    """Store the target's greedy answers with its top-k distributions, whole or not at all."""
    import torch

    jobs = [
        Job(prompt.category, tuple(Turn(text, answer_tokens) for text in prompt.turns)) for prompt in prompts
    ]
    dialogues = maker.converse(jobs, [(0, index) for index in range(len(jobs))])
    rows = [
        {
            "task": each.job.task,
            "prompt": torch.tensor(request.prompt),
            "tokens": torch.tensor(written.tokens),
            "top_ids": torch.from_numpy(np.stack(written.top_ids)),
            "top_log_probs": torch.from_numpy(np.stack(written.top_log_probs)),
        }
        for each in dialogues
        for request, written, _ in each.sequences
    ]
    with replacing(path) as partial:
        torch.save(rows, partial)


def read_answers(path: Path) -> list[dict]:
    """What `write_answers` stored: task, prompt [n], tokens [m], top_ids and top_log_probs [m, k]."""
    import torch

    return torch.load(path, weights_only=True)


def replayed(agreement: Sequence[bool], draft_length: int) -> tuple[int, int]:
    """Committed tokens and verifications when drafts of `draft_length` meet these agreement bits.

    Greedy output does not depend on the draft, so whether it agrees at each position of the target's own
    text decides what would have been accepted. The first token is the target's prefill.
    """
    at, tokens, verifications = 1, 0, 0
    while at < len(agreement):
        run = 0
        while run < draft_length and at + run < len(agreement) and agreement[at + run]:
            run += 1
        committed = min(run + 1, len(agreement) - at)
        tokens, verifications, at = tokens + committed, verifications + 1, at + committed
    return tokens, verifications


def score(model: PreTrainedModel, student: Student, answers: Sequence[dict]) -> dict[str, dict[str, float]]:
    """Figures by task and over all, one teacher-forced pass per answer.

    `agreement`: share of tokens where the draft's argmax is the target's token. `overlap`: mean of
    Σ min(p, q), the acceptance rate of rejection sampling. `acceptance_length`: tokens per verification at
    draft length 4. `in_vocabulary`: share of tokens that the draft could have said.
    """
    import torch

    table = torch.from_numpy(student.to_draft)
    target_ids = torch.from_numpy(student.target_ids)
    sums: dict[str, np.ndarray] = {}
    for row in answers:
        tokens, known = row["tokens"], table[row["tokens"]] >= 0
        ids = table[torch.cat([row["prompt"], tokens[:-1]])]
        inputs = torch.where(ids < 0, student.unknown_id, ids).to(model.device)
        with torch.inference_mode():
            logits = model(input_ids=inputs[None], use_cache=False, logits_to_keep=len(tokens)).logits[0]
        log_probs = torch.log_softmax(logits.float(), -1).cpu()
        agreement = (target_ids[log_probs.argmax(-1)] == tokens).tolist()
        top = table[row["top_ids"]]
        draft = torch.where(top >= 0, log_probs.gather(1, top.clamp_min(0)).exp(), 0.0)
        overlap = torch.minimum(draft, row["top_log_probs"].exp()).sum()
        counts = [sum(agreement), len(agreement), overlap, *replayed(agreement, DRAFT_LENGTH), known.sum()]
        for task in (ALL, row["task"]):
            sums[task] = sums.get(task, 0.0) + np.array([float(count) for count in counts])
    return {task: _figures(*values.tolist()) for task, values in sums.items()}


def _figures(
    agreed: float, tokens: float, overlap: float, committed: float, verifications: float, known: float
) -> dict[str, float]:
    return {
        "agreement": round(agreed / tokens, 4),
        "overlap": round(overlap / tokens, 4),
        "acceptance_length": round(committed / max(verifications, 1), 3),
        "in_vocabulary": round(known / tokens, 4),
        "tokens": int(tokens),
    }
