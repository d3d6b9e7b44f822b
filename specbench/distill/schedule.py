"""How far a training run is, how long it will be, and its learning rate: numbers without a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from specbench.distill.settings import Settings

MEASURED_STEPS = 20
MEASURED_SHARE = 0.05


@dataclass
class Progress:
    """Where a run stands; `total_steps` is None until the speed is known, and kept from then on.

    `loss` is a running mean in nats, `positions` counts the tokens learnt from, `seconds` the time so far.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    total_steps: int | None = None
    decay_steps: int | None = None
    positions: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    best_step: int = 0
    evaluations: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_finished(self) -> bool:
        """Whether the last step was taken."""
        return self.total_steps is not None and self.step >= self.total_steps

    def fix(self, total_steps: int, settings: Settings) -> None:
        """Decide the number of steps, and how many of them the decay takes."""
        self.total_steps = total_steps
        self.decay_steps = max(1, round(settings.decay_share * total_steps))

    def measure(self, settings: Settings) -> bool:
        """Decide the number of steps from the time that they take, once enough were timed; whether it did."""
        available = settings.training_seconds
        if self.step < MEASURED_STEPS and self.seconds < available:
            return False
        if self.seconds < MEASURED_SHARE * available:
            return False
        remaining = int((available - self.seconds) * self.step / self.seconds)
        self.fix(self.step + max(1, remaining), settings)
        return True

    def learning_rate(self, settings: Settings) -> float:
        """Of the next step: linear warm-up, constant, linear decay over the last steps of the plan."""
        warmup = settings.warmup_steps
        if settings.steps is not None:
            warmup = min(warmup, max(1, settings.steps // 10))
        scale = min(1.0, (self.step + 1) / warmup)
        if self.total_steps is not None and self.decay_steps:
            scale = min(scale, (self.total_steps - self.step) / self.decay_steps)
        return settings.learning_rate * scale

    def evaluation_is_due(self, settings: Settings) -> bool:
        """Whether the draft is scored after this step."""
        if self.total_steps is None:
            return False
        every = max(1, round(self.total_steps / settings.evaluations))
        return self.is_finished or self.step % every == 0

    def count(self, loss: float, positions: int) -> None:
        """One more step was taken."""
        self.step += 1
        self.positions += positions
        self.loss = loss if self.step == 1 else 0.95 * self.loss + 0.05 * loss

    def record(self, figures: dict[str, Any], agreement: float, settings: Settings) -> bool:
        """Note an evaluation; whether it is the best so far.

        Without a new best in `patience` evaluations, the decay begins at once.
        """
        is_best = agreement >= max((each["agreement"] for each in self.evaluations), default=0.0)
        self.evaluations.append(
            {"step": self.step, "loss": round(self.loss, 4), "agreement": agreement, "tasks": figures}
        )
        if is_best:
            self.best_step = self.step
        since = sum(each["step"] > self.best_step for each in self.evaluations)
        if self.total_steps is not None and self.decay_steps is not None:
            is_decaying = self.step >= self.total_steps - self.decay_steps
            if since >= settings.patience and not is_decaying:
                self.total_steps = self.step + self.decay_steps
        return is_best

    def described(self) -> str:
        """One line for a log."""
        line = (
            f"training: step {self.step} of {self.total_steps or '?'}, epoch {self.epoch}, "
            f"loss {self.loss:.3f}, {self.positions / max(self.seconds, 1e-9):.0f} tokens/s"
        )
        if self.evaluations and self.evaluations[-1]["step"] == self.step:
            figures = self.evaluations[-1]["tasks"]["all"]
            line += (
                f"; held out: agreement {figures['agreement']:.3f}, overlap {figures['overlap']:.3f}, "
                f"acceptance length {figures['acceptance_length']:.2f}"
            )
        return line
