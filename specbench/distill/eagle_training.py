"""Training and scoring of drafts that read the target's hidden states, computed as they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from specbench.distill import heldout
from specbench.distill.corpus import Corpus
from specbench.distill.eagle_student import features_of
from specbench.distill.loss import head_loss
from specbench.distill.settings import Settings
from specbench.distill.student import Student
from specbench.distill.training import Trainer
from specbench.distill.unrolling import unrolled


class EagleTrainer(Trainer):
    """As `Trainer`; the draft goes on for several steps on its own hidden states, and learns from each.

    Args:
        target: in what is fast to compute in.
    """

    def __init__(
        self,
        student: Student,
        corpus: Corpus,
        answers: Sequence[dict],
        settings: Settings,
        target: PreTrainedModel,
    ) -> None:
        self._target: Any = target
        super().__init__(student, corpus, answers, settings)
        self._target.to(self.device, self.dtype)
        self._layers = tuple(student.model.config.feature_layers)

    def _loss(self) -> tuple[torch.Tensor, int]:
        chosen, (inputs, rows, labels, probabilities, weights) = self._next_batch()
        tokens = torch.from_numpy(self.corpus.padded(chosen)).to(self.device)
        states = features_of(self._target, tokens, self._layers)[:, :-1].to(self.dtype)
        width = inputs.shape[1]
        place = rows % width - 1  # among the tokens behind the first, which has no hidden state before it
        head = self.model.get_output_embeddings().weight
        total, share = torch.zeros((), device=self.device), 1.0
        with torch.autocast(
            torch.device(self.device).type, torch.bfloat16, enabled=self.dtype == torch.bfloat16
        ):
            fused = self.model.fuse(states.flatten(2))
            steps = list(unrolled(self.model, fused, inputs[:, 1:], self.settings.unrolled_steps))
        for step, hidden in enumerate(steps):
            means = place >= step
            at = (rows // width * (width - 1) + place)[means]
            said = hidden.flatten(0, 1).index_select(0, at).float()
            parts = labels[means], probabilities[means], weights[means]
            total = total + share * head_loss(said, head, *parts, self.dtype, self.settings.loss)
            share *= self.settings.step_weight
        sum_of_shares = sum(self.settings.step_weight**step for step in range(len(steps)))
        return total / sum_of_shares, len(rows)

    def _scored(self) -> dict[str, dict]:
        return score(self.model, self.student, self._target, self.answers)


@torch.inference_mode()
def score(model: Any, student: Student, target: Any, answers: Sequence[dict]) -> dict[str, dict]:
    """As `heldout.score`, of a draft that reads the target's hidden states and goes on with its own."""
    table = torch.from_numpy(student.to_draft)
    target_ids = torch.from_numpy(student.target_ids)
    tally = heldout.Tally()
    for row in answers:
        text = torch.cat([row["prompt"], row["tokens"]])
        if len(row["tokens"]) < 2:
            continue
        ids = table[text[1:-1]]
        inputs = torch.where(ids < 0, student.unknown_id, ids)[None].to(model.device)
        states = features_of(target, text[None, :-2].to(model.device), tuple(model.config.feature_layers))
        fused = model.fuse(states.flatten(2).float())
        first = len(row["prompt"]) - 1  # behind the answer's first token, which is the target's own
        by_step, log_probs = [], None
        for hidden in unrolled(model, fused, inputs, heldout.DRAFT_LENGTH):
            logits = model.lm_head(hidden[0, first:]).float()
            said = target_ids[logits.argmax(-1).cpu()]
            by_step.append([False, *(said == text[first + 2 :]).tolist()])
            log_probs = torch.log_softmax(logits, -1).cpu() if log_probs is None else log_probs
        tally.add(row, table, by_step, log_probs)
    return tally.figures()
