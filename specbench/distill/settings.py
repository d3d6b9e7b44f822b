"""What a distillation is asked for: the command's arguments and the numbers behind them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from specbench.atomic import json_bytes, write_bytes
from specbench.errors import SpecbenchError, StoreError
from specbench.speculation.features import MOST_LAYERS

SEEDS = "seeds"
Kind = Literal["plain", "eagle"]
Loss = Literal["kl", "tv", "kl+tv"]
DEFAULT_LAYERS = "3"
DEFAULT_DRAFT_VOCAB = 12288


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result, beside the machine's speed.

    Args:
        target: a model as profiles name it: `embedded:NAME`, a folder, or a hub id.
        out: the folder of the draft; `out/work` holds what a resumed run needs.
        layers: how many of the target's layers, or which (`0,1,29`); of an `eagle` draft, which ones' hidden
            states it reads. Without any, `DEFAULT_LAYERS`, or a low, a middle and a high one.
        draft_vocab: tokens that the draft knows; without it `DEFAULT_DRAFT_VOCAB`, or those of `start`.
        prompts: `seeds`, or a JSONL file in the benchmark's format.
        minutes: half for text, half for training, unless `tokens` or `steps` say how much.
        tokens: generated tokens to make, whatever the time.
        steps: training steps, whatever the time.
        kind: `plain` reads tokens, `eagle` the target's hidden states too.
        loss: divergence from the target; see `loss.HeadLoss`.
        start: a draft to begin with, as profiles name models, in place of layers of the target.
        unrolled_steps: how far an `eagle` draft goes on with its own hidden states; each step weighs
            `step_weight` times what the one before does.
        answer_tokens: budget of an answer to a prompt of a file; seeds bring their own.
        context_tokens: longest conversation, prompt and answer together.
        batch_tokens: padded tokens of one training batch.
        average: decay of the running average of the weights, which is what is exported.
        evaluations: held-out evaluations over the whole training; `patience` of them without a new best
            begin the final decay early.
    """

    target: str
    out: Path
    layers: str | None = None
    draft_vocab: int | None = None
    prompts: str = SEEDS
    minutes: float = 150.0
    seed: int = 0
    tokens: int | None = None
    steps: int | None = None
    kind: Kind = "plain"
    loss: Loss = "kl"
    start: str | None = None
    unrolled_steps: int = 3
    step_weight: float = 0.8
    sequences_at_once: int = 48
    jobs_per_shard: int = 192
    answer_tokens: int = 192
    context_tokens: int = 1152
    top_k: int = 24
    batch_tokens: int = 2048
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    decay_share: float = 0.2
    weight_decay: float = 0.02
    clip_norm: float = 1.0
    average: float = 0.995
    sampled_weight: float = 0.8
    user_weight: float = 0.3
    evaluations: int = 15
    patience: int = 4
    heldout_tokens: int = 96

    @property
    def work(self) -> Path:
        """Where text, checkpoints and the settings of a run in progress lie."""
        return self.out / "work"

    @property
    def text_seconds(self) -> float:
        """Time for text; without end where `tokens` decides."""
        return self.minutes * 30 if self.tokens is None else float("inf")

    @property
    def training_seconds(self) -> float:
        """Time for training, where `steps` does not decide."""
        return self.minutes * 30

    @property
    def vocabulary_size(self) -> int:
        """Tokens that the draft knows, unless it takes over those of `start`."""
        return self.draft_vocab or DEFAULT_DRAFT_VOCAB

    def feature_layers(self, available: int) -> tuple[int, ...]:
        """Layers of the target whose hidden states an `eagle` draft reads: 0 is the embedding.

        Raises:
            SpecbenchError: `layers` is no list, or the target has no such layers.
        """
        if self.layers is None:
            return tuple(sorted({min(2, available), max(available // 2, 1), max(available - 3, 1)}))
        try:
            numbers = tuple(int(part) for part in self.layers.split(","))
        except ValueError:
            numbers = ()
        ordered = numbers and sorted(set(numbers)) == list(numbers)
        if not ordered or numbers[0] < 0 or numbers[-1] > available or len(numbers) > MOST_LAYERS:
            raise SpecbenchError(
                f"--layers {self.layers}: a draft of --kind eagle reads up to {MOST_LAYERS} of the target's "
                f"layers 0 to {available}, each named once and in order",
                "for example --layers 2,15,27",
            )
        return numbers

    def open(self) -> None:
        """Make the folders, and refuse to go on with what other settings have begun.

        Raises:
            SpecbenchError: a folder that cannot be written, or a run with other settings in it.
        """
        path = self.work / "settings.json"
        if path.is_file():
            stored = json.loads(path.read_text(encoding="utf-8"))
            for key, value in self._kept().items():
                if stored.get(key) != value:
                    raise StoreError(
                        f"{self.out} holds a distillation with other settings: {key} was {stored.get(key)}, "
                        f"and is {value}",
                        "repeat the original settings to resume it, or choose another --out",
                    )
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            write_bytes(path, json_bytes(self._kept()))
        except OSError as error:
            raise StoreError(
                f"--out {self.out} cannot be written: {error.strerror}", "choose another folder"
            ) from error

    def _kept(self) -> dict:
        return {key: value for key, value in asdict(self).items() if key != "out"}

    def check(self) -> None:
        """Refuse settings that exclude each other, and numbers out of range.

        Raises:
            SpecbenchError: names the option and what would do.
        """
        others = {"--layers": self.layers, "--draft-vocab": self.draft_vocab}
        for other, is_given in others.items():
            if self.start and is_given:
                raise SpecbenchError(
                    f"--start {self.start} has its layers and its vocabulary: {other} cannot be asked for",
                    f"leave out --start or {other}",
                )
        least = {
            "minutes": self.minutes > 0,
            "tokens": self.tokens is None or self.tokens > 0,
            "steps": self.steps is None or self.steps > 0,
            "draft-vocab": self.draft_vocab is None or self.draft_vocab >= 2,
            "seed": self.seed >= 0,
        }
        for name, good in least.items():
            if not good:
                value = getattr(self, name.replace("-", "_"))
                raise SpecbenchError(f"--{name} {value} is too small")


def chosen_layers(text: str, available: int) -> tuple[int, ...]:
    """Indices of the target's layers that the draft is built from.

    A count takes the first ones and the last (`3` of 30 is 0, 1, 29); a list is taken as it is.

    Raises:
        SpecbenchError: neither a count nor a list, or layers that the target does not have.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise SpecbenchError(
            f"--layers {text} is neither a number nor a list of numbers", "for example --layers 0,1,29"
        ) from error
    if "," not in text:
        count = numbers[0]
        if not 1 <= count <= available:
            raise SpecbenchError(f"--layers {text}: the target has {available} layers")
        return (*range(count - 1), available - 1) if count > 1 else (0,)
    if sorted(set(numbers)) != numbers or numbers[0] < 0 or numbers[-1] >= available:
        raise SpecbenchError(
            f"--layers {text}: the target's layers are 0 to {available - 1}, each named once and in order"
        )
    return tuple(numbers)
