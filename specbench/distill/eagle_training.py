"""Training and scoring of drafts that read the target's hidden states, computed as they are needed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from specbench.distill import heldout
from specbench.distill.corpus import Corpus
from specbench.distill.eagle_student import features_of
from specbench.distill.loss import head_loss
from specbench.distill.settings import Settings
from specbench.distill.states import States
from specbench.distill.student import Student
from specbench.distill.training import Trainer
from specbench.distill.unrolling import unrolled
from specbench.models.library import moved


class EagleTrainer(Trainer):
    """As `Trainer`; the draft goes on for several steps on its own hidden states, and learns from each.

    Args:
        target: in what is fast to compute in; its layers above those that the draft reads are given up.
    """

    def __init__(
        self,
        student: Student,
        corpus: Corpus,
        answers: Sequence[dict],
        settings: Settings,
        target: PreTrainedModel,
    ) -> None:
        self._layers = tuple(student.model.config.feature_layers)
        self._target: Any = target
        decoder = self._target.get_decoder()
        decoder.layers = decoder.layers[: max(self._layers[-1], 1)]
        super().__init__(student, corpus, answers, settings)
        self._target = moved(self._target, self.device, self.dtype)
        self._states = States(self._target, corpus, self._layers)

    def _loss(self) -> tuple[torch.Tensor, int]:
        chosen, (inputs, rows, *learnt) = self._next_batch()
        states, width = self._states.of(chosen)[:, :-1], inputs.shape[1]
        follows = rows % width > 0  # the first token has no hidden state before it
        rows = rows - rows // width - 1
        rows, learnt = rows[follows], [each[follows] for each in learnt]
        run = run_lengths(rows, width - 1)
        head = self.model.get_output_embeddings().weight
        total, share = torch.zeros((), device=self.device), 1.0
        with torch.autocast(
            torch.device(self.device).type, torch.bfloat16, enabled=self.dtype == torch.bfloat16
        ):
            fused = self.model.fuse(states)
            steps = list(unrolled(self.model, fused, inputs[:, 1:], rows, self.settings.unrolled_steps))
        for step, hidden in enumerate(steps):
            means = torch.nonzero(run >= step).squeeze(1)
            labels, probabilities, weights = (each[means] for each in learnt)
            said = hidden.index_select(0, means).float()
            loss = head_loss(said, head, labels, probabilities, weights, self.dtype, self.settings.loss)
            total = total + share * loss
            share *= self.settings.step_weight
        sum_of_shares = sum(self.settings.step_weight**step for step in range(len(steps)))
        return total / sum_of_shares, len(rows)

    def _scored(self) -> dict[str, dict]:
        return score(self.model, self.student, self._answered)

    @functools.cached_property
    def _answered(self) -> list[tuple[dict, torch.Tensor]]:
        """The held-out answers of more than one token, each with the target's hidden states."""
        texts = [(row, torch.cat([row["prompt"], row["tokens"]])) for row in self.answers]
        return [
            (row, features_of(self._target, text[None, :-2].to(self.device), self._layers))
            for row, text in texts
            if len(row["tokens"]) > 1
        ]


@torch.inference_mode()
def score(model: Any, student: Student, answers: Sequence[tuple[dict, torch.Tensor]]) -> dict[str, dict]:
    """As `heldout.score`, of a draft that reads the target's hidden states and goes on with its own."""
    table = torch.from_numpy(student.to_draft)
    target_ids = torch.from_numpy(student.target_ids)
    tally = heldout.Tally()
    for row, states in answers:
        text = torch.cat([row["prompt"], row["tokens"]])
        ids = table[text[1:-1]]
        inputs = torch.where(ids < 0, student.unknown_id, ids)[None].to(model.device)
        fused = model.fuse(states.flatten(2).float())
        first = len(row["prompt"]) - 1  # behind the answer's first token, which is the target's own
        by_step = []
        rows = torch.arange(first, inputs.shape[1], device=model.device)
        for step, hidden in enumerate(unrolled(model, fused, inputs, rows, heldout.DRAFT_LENGTH)):
            logits = model.lm_head(hidden).float()
            said = target_ids[logits.argmax(-1).cpu()]
            by_step.append([False, *(said == text[first + 2 :]).tolist()])
            if not step:
                log_probs = torch.log_softmax(logits, -1).cpu()
        tally.add(row, table, by_step, log_probs)
    return tally.figures()


def run_lengths(rows: torch.Tensor, width: int) -> torch.Tensor:
    """How many rows before each are those of the tokens before, without a gap; shape (rows,).

    Args:
        rows: indices into flattened texts of so many tokens, ascending; shape (rows,).
    """
    if not len(rows):
        return rows
    is_next = (rows.diff() == 1) & (rows[1:] % width > 0)
    order = torch.arange(len(rows), device=rows.device)
    begins = torch.where(torch.cat([is_next.new_zeros(1), is_next]), 0, order)
    return order - begins.cummax(0).values
