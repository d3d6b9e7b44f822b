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
    import torch
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


def replayed(agreement: Sequence[Sequence[bool]]) -> tuple[int, int, list[int], list[int]]:
    """What becomes of drafts along a text of the target's.

    Greedy output does not depend on the draft, so whether it agrees at each position of the target's own
    text decides what would have been accepted. The first token is the target's prefill.

    Args:
        agreement: a row for each position in a draft, so as many as a draft has tokens: whether the draft says
            the text's token there. A draft that reads tokens alone has the same row for all.

    Returns:
        Committed tokens, verifications, and by position in a draft how many tokens were judged and stood.
    """
    length = len(agreement[0])
    at, tokens, verifications = 1, 0, 0
    judged, stood = [0] * len(agreement), [0] * len(agreement)
    while at < length:
        run = 0
        while run < len(agreement) and at + run < length:
            judged[run] += 1
            if not agreement[run][at + run]:
                break
            stood[run] += 1
            run += 1
        committed = min(run + 1, length - at)
        tokens, verifications, at = tokens + committed, verifications + 1, at + committed
    return tokens, verifications, judged, stood


def score(model: PreTrainedModel, student: Student, answers: Sequence[dict]) -> dict[str, dict]:
    """Figures by task and over all, one teacher-forced pass per answer.

    `agreement`: share of tokens where the draft's argmax is the target's token. `overlap`: mean of
    Σ min(p, q), the acceptance rate of rejection sampling. `acceptance_length`: tokens per verification at
    draft length 4. `acceptance`: by position in such a draft, the share of judged tokens that stood.
    `in_vocabulary`: share of tokens that the draft could have said.
    """
    import torch

    table = torch.from_numpy(student.to_draft)
    target_ids = torch.from_numpy(student.target_ids)
    tally = Tally()
    for row in answers:
        tokens = row["tokens"]
        ids = table[torch.cat([row["prompt"], tokens[:-1]])]
        inputs = torch.where(ids < 0, student.unknown_id, ids).to(model.device)
        with torch.inference_mode():
            logits = model(input_ids=inputs[None], use_cache=False, logits_to_keep=len(tokens)).logits[0]
        log_probs = torch.log_softmax(logits.float(), -1).cpu()
        agreement = (target_ids[log_probs.argmax(-1)] == tokens).tolist()
        tally.add(row, table, [agreement] * DRAFT_LENGTH, log_probs)
    return tally.figures()


class Tally:
    """Sums by task and over all."""

    def __init__(self) -> None:
        self._sums: dict[str, np.ndarray] = {}

    def add(
        self, row: dict, table: torch.Tensor, agreement: Sequence[Sequence[bool]], log_probs: torch.Tensor
    ) -> None:
        """Count an answer.

        Args:
            row: as of `read_answers`.
            table: draft id of every target id, -1 where there is none.
            agreement: as of `replayed`.
            log_probs: the draft's, at the last tokens of the answer, shape (tokens, draft vocabulary).
        """
        import torch

        count = len(log_probs)
        top = table[row["top_ids"][-count:]]
        draft = torch.where(top >= 0, log_probs.gather(1, top.clamp_min(0)).exp(), 0.0)
        overlap = float(torch.minimum(draft, row["top_log_probs"][-count:].exp()).sum())
        known = int((table[row["tokens"][-count:]] >= 0).sum())
        committed, verifications, judged, stood = replayed(agreement)
        counts = [sum(agreement[0][-count:]), count, overlap, committed, verifications, known, *judged, *stood]
        for task in (ALL, row["task"]):
            self._sums[task] = self._sums.get(task, 0.0) + np.array([float(each) for each in counts])

    def figures(self) -> dict[str, dict]:
        """The figures of `score`."""
        return {task: _figures(*values.tolist()) for task, values in self._sums.items()}


def _figures(
    agreed: float,
    tokens: float,
    overlap: float,
    committed: float,
    verifications: float,
    known: float,
    *judged_and_stood: float,
) -> dict:
    positions = len(judged_and_stood) // 2
    pairs = zip(judged_and_stood[:positions], judged_and_stood[positions:], strict=True)
    return {
        "agreement": round(agreed / tokens, 4),
        "overlap": round(overlap / tokens, 4),
        "acceptance_length": round(committed / max(verifications, 1), 3),
        "acceptance": [round(stood / judged, 4) if judged else None for judged, stood in pairs],
        "in_vocabulary": round(known / tokens, 4),
        "tokens": int(tokens),
    }
