"""The training loop, with checkpoints from which it goes on as if it had never been stopped."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from specbench.atomic import replacing
from specbench.distill import heldout
from specbench.distill.corpus import Corpus
from specbench.distill.machine import fast_dtype, interruption
from specbench.distill.schedule import Progress
from specbench.distill.settings import Settings
from specbench.distill.student import Student
from specbench.errors import RunError
from specbench.models.devices import resolve_device
from specbench.models.library import moved

if TYPE_CHECKING:
    import numpy as np
    import torch

logger = logging.getLogger(__name__)

SAVE_SECONDS = 300
SAY_SECONDS = 30
ADAM_BETAS = (0.9, 0.98)


class Trainer:
    """A student in training.

    The number of steps is fixed once: by `settings.steps`, or from the speed of the first steps and the time
    there is. From then on every step is decided by the settings and the text, so that a run that was killed
    ends in the same weights as one that was not.

    Args:
        answers: the held-out answers, see `heldout.read_answers`.
    """

    def __init__(self, student: Student, corpus: Corpus, answers: Sequence[dict], settings: Settings) -> None:
        self.student, self.corpus, self.answers = student, corpus, answers
        self.settings = settings
        self.device = resolve_device("auto")
        self.dtype = fast_dtype(self.device)
        self.model = moved(student.model, self.device).train()
        self.optimizer = self._optimizer()
        self.to_draft = student.to_draft
        self.average = {name: each.detach().clone() for name, each in self.model.named_parameters()}
        self.best = {name: each.clone() for name, each in self.average.items()}
        self.progress = Progress()
        self.state_path = settings.work / "state.pt"
        if settings.steps is not None:
            self.progress.fix(settings.steps, settings)
        if self.state_path.is_file():
            self._restore()
        self.batches = corpus.epoch(settings, self.progress.epoch)

    def run(self) -> Progress:
        """Train to the end of the plan; the best averaged weights are in `best` afterwards.

        Raises:
            SpecbenchError: the loss is no longer finite.
            KeyboardInterrupt: asked to stop; the state is kept.
        """
        with interruption() as asked_to_stop:
            self._run(asked_to_stop)
        return self.progress

    def _run(self, asked_to_stop: Callable[[], bool]) -> None:
        progress = self.progress
        logger.info(
            "training: starting at step %d, on %d sequences, in %s on %s",
            *(progress.step, len(self.corpus), str(self.dtype).removeprefix("torch."), self.device),
        )
        mark = saved = said = time.monotonic()
        while not progress.is_finished:
            loss, positions = self._step()
            progress.count(loss, positions)
            self._update_average()
            now = time.monotonic()
            progress.seconds, mark = progress.seconds + now - mark, now
            if not math.isfinite(loss):
                raise RunError(f"the loss is not finite at step {progress.step}", "try another seed")
            due = progress.total_steps is None and progress.measure(self.settings)
            if due:
                each = progress.seconds / progress.step
                logger.info("training: %d steps of %.3f s fit the time", progress.total_steps, each)
            if progress.evaluation_is_due(self.settings):
                self._evaluate()
                due = True
            elif now - said > SAY_SECONDS:
                logger.info(progress.described())
                said = now
            if due or asked_to_stop() or now - saved > SAVE_SECONDS:
                self._save()
                saved = now
            if asked_to_stop():
                raise KeyboardInterrupt

    def _optimizer(self) -> torch.optim.Optimizer:
        """AdamW; embeddings, head and norms do not decay."""
        import torch

        tables = {id(self.model.get_input_embeddings().weight), id(self.model.get_output_embeddings().weight)}
        parameters = list(self.model.parameters())
        matrices = [each for each in parameters if each.dim() > 1 and id(each) not in tables]
        others = [each for each in parameters if each.dim() <= 1 or id(each) in tables]
        groups = [
            {"params": matrices, "weight_decay": self.settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.settings.learning_rate, betas=ADAM_BETAS)

    def _step(self) -> tuple[float, int]:
        """One update of the weights; returns its loss in nats and the positions learnt from."""
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = self.progress.learning_rate(self.settings)
        self.optimizer.zero_grad(set_to_none=True)
        loss, positions = self._loss()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        return float(loss.detach()), positions

    def _loss(self) -> tuple[torch.Tensor, int]:
        """The loss of the next batch, and the positions learnt from."""
        import torch

        from specbench.distill.loss import head_loss  # defines a torch class, so it imports torch at once

        _, (inputs, rows, labels, probabilities, weights) = self._next_batch()
        kind = torch.device(self.device).type
        with torch.autocast(kind, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            hidden = self.model.get_decoder()(input_ids=inputs, use_cache=False).last_hidden_state
        hidden = hidden.flatten(0, 1).index_select(0, rows).float()
        head = self.model.get_output_embeddings().weight
        parts = labels, probabilities, weights
        return head_loss(hidden, head, *parts, self.dtype, self.settings.loss), len(rows)

    def _scored(self) -> dict[str, dict]:
        """The held-out figures of the weights that are in the model now."""
        return heldout.score(self.model, self.student, self.answers)

    def _next_batch(self) -> tuple[np.ndarray, list[torch.Tensor]]:
        """Which sequences come next, and what `Corpus.batch` makes of them."""
        import torch

        progress = self.progress
        if progress.batch >= len(self.batches):
            progress.epoch, progress.batch = progress.epoch + 1, 0
            self.batches = self.corpus.epoch(self.settings, progress.epoch)
        chosen = self.batches[progress.batch]
        progress.batch += 1
        arrays = self.corpus.batch(chosen, self.to_draft, self.student.unknown_id, self.settings)
        return chosen, [torch.from_numpy(array).to(self.device) for array in arrays]

    def _update_average(self) -> None:
        import torch

        step = self.progress.step
        rate = 1 - min(self.settings.average, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, each in self.model.named_parameters():
                self.average[name].lerp_(each, rate)

    def _evaluate(self) -> None:
        with self._averaged():
            figures = self._scored()
        planned = self.progress.total_steps
        if self.progress.record(figures, figures[heldout.ALL]["agreement"], self.settings):
            self.best = {name: each.clone() for name, each in self.average.items()}
        logger.info(self.progress.described())
        if self.progress.total_steps != planned:
            logger.info("training: no improvement for a while; starting the final decay")

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights are in the model while inside."""
        kept = {name: each.detach().clone() for name, each in self.model.named_parameters()}
        self._put(self.average)
        self.model.eval()
        try:
            yield
        finally:
            self._put(kept)
            self.model.train()

    def _put(self, weights: dict[str, torch.Tensor]) -> None:
        import torch

        with torch.no_grad():
            for name, each in self.model.named_parameters():
                each.copy_(weights[name])

    def _save(self) -> None:
        import torch

        state = {
            "model": {name: each.detach() for name, each in self.model.named_parameters()},
            "average": self.average,
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "progress": vars(self.progress),
        }
        with replacing(self.state_path) as partial:
            torch.save(state, partial)

    def _restore(self) -> None:
        import torch

        state = torch.load(self.state_path, weights_only=True, map_location=self.device)
        self._put(state["model"])
        self.average, self.best = state["average"], state["best"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
