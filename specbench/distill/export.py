"""The finished draft as a folder: configuration, bf16 weights, vocabulary map, model card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from specbench import __version__
from specbench.atomic import write_bytes, write_json
from specbench.distill.heldout import ALL
from specbench.distill.schedule import Progress
from specbench.distill.settings import SEEDS, Settings
from specbench.distill.student import Student
from specbench.models import embedded, vocabulary
from specbench.models.library import moved, quiet_transformers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

VOCAB_MAP = "vocab_map.json"


def export(
    student: Student, weights: dict[str, torch.Tensor], settings: Settings, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Write the draft into `settings.out`, in Hugging Face format, without a tokenizer: the target's serves."""
    import torch

    model = moved(student.model, "cpu")
    with torch.no_grad():
        for name, each in model.named_parameters():
            each.copy_(weights[name])
    model = moved(model, torch.bfloat16)
    with quiet_transformers():
        model.save_pretrained(settings.out)
    vocab_map = {
        "target": settings.target,
        "tokenizer_sha256": vocabulary.fingerprint(tokenizer),
        "target_vocabulary_size": vocabulary.size(tokenizer),
        "unknown_id": student.unknown_id,
        "target_ids": student.target_ids.tolist(),
    }
    write_json(settings.out / VOCAB_MAP, vocab_map, indent=0)


def write_card(
    settings: Settings, student: Student, layers: tuple[int, ...], text: dict, progress: Progress
) -> dict:
    """Write README.md; returns the same facts as plain values.

    Args:
        text: `sequences`, `tokens`, `seconds` and tokens by `tasks` of the training text.
    """
    best = next(each for each in progress.evaluations if each["step"] == progress.best_step)
    report = {
        "out": str(settings.out),
        "target": settings.target,
        "kind": settings.kind,
        "start": settings.start,
        "layers": [] if settings.start else list(layers),
        "draft_vocab": len(student.target_ids),
        "parameters": sum(each.numel() for each in student.model.parameters()),
        "seed": settings.seed,
        "text": text,
        "training": {
            "steps": progress.step,
            "best_step": progress.best_step,
            "positions": progress.positions,
            "seconds": round(progress.seconds, 1),
            "loss": round(progress.loss, 4),
        },
        "heldout": best["tasks"],
        "command": command(settings),
    }
    write_bytes(settings.out / "README.md", _card(report, settings, progress).encode())
    return report


def command(settings: Settings) -> str:
    """The command line that makes this draft."""
    default = Settings(settings.target, settings.out)

    def given(*names: str) -> list[str]:
        values = {name: getattr(settings, name) for name in names}
        return [f"--{name} {value}" for name, value in values.items() if value != getattr(default, name)]

    parts = given("kind", "start", "layers")
    parts += [f"--draft-vocab {settings.vocabulary_size}"] if not settings.start else []
    parts += [
        f"--prompts {settings.prompts}",
        f"--minutes {settings.minutes:g}", f"--seed {settings.seed}", "--out DIR",
    ]  # fmt: skip
    parts += given("loss", "tokens", "steps")
    return " ".join(["specbench distill", f"--target {settings.target}", *parts])


def _architecture(report: dict) -> str:
    """What the draft is made of, as the beginning of a sentence."""
    if report["start"]:
        return f"that of `{report['start']}`, with which training began"
    layers = ", ".join(map(str, report["layers"]))
    if report["kind"] == "eagle":
        return f"one layer, which reads the target's hidden states of layers {layers} (0 is the embedding)"
    return f"the target's layers {layers}"


DIVERGENCES = {
    "kl": "KL divergence to the target",
    "tv": "total variation distance to the target",
    "kl+tv": "KL divergence plus total variation distance to the target",
}


def _card(report: dict, settings: Settings, progress: Progress) -> str:
    text, training = report["text"], report["training"]
    source = (
        "specbench's seed prompts (their passages and licences: specbench/distill/SOURCES.md)"
        if settings.prompts == SEEDS
        else f"the prompts of `{Path(settings.prompts).name}`"
    )
    licence = _licence(settings.target)
    rows = [
        f"| {task} | {f['agreement']:.3f} | {f['overlap']:.3f} | {f['acceptance_length']:.2f} | "
        f"{' '.join('-' if each is None else f'{each:.2f}' for each in f['acceptance'])} | "
        f"{f['in_vocabulary']:.3f} | {f['tokens']} |"
        for task, f in sorted(report["heldout"].items(), key=lambda item: (item[0] != ALL, item[0]))
    ]
    curve = [
        f"| {each['step']} | {each['loss']:.3f} | {each['agreement']:.3f} | "
        f"{each['tasks'][ALL]['acceptance_length']:.2f} |"
        for each in progress.evaluations
    ]
    tasks = ", ".join(f"{task} {count}" for task, count in sorted(text["tasks"].items()))
    return f"""\
# A draft for {report["target"]}

Made by specbench {__version__} for speculative decoding: it proposes tokens, the target verifies them. Alone
it writes poorly.

- **Architecture**: {_architecture(report)}; {report["draft_vocab"]} of the target's tokens,
  {report["parameters"] / 1e6:.1f} M parameters, stored in bfloat16.
- **Vocabulary**: `{VOCAB_MAP}` holds the target's id of every draft id; `unknown_id` stands for all tokens
  that the draft does not know. The tokenizer is the target's, and is not repeated here.
- **Data**: {text["tokens"]} tokens in {text["sequences"]} sequences, written by the target itself from
  {source}: {tasks}. For each the target's {settings.top_k} most probable tokens were kept.
- **Training**: {DIVERGENCES[settings.loss]}, {training["steps"]} steps, {training["positions"]} positions,
  {training["seconds"] / 60:.1f} min after {text["seconds"] / 60:.1f} min for the text; the averaged weights of
  step {training["best_step"]}. Seed {report["seed"]}.
- **Licence**: {licence}

    {report["command"]}

## Held-out prompts

Sixty hand-written prompts that no training text came from; the target's greedy answers. Overlap is the mean of
Σ min(p, q); the acceptance length is that of draft length 4, and acceptance the share that stood of the tokens
judged at its positions.

| task | agreement | overlap | acceptance length | acceptance | in vocabulary | tokens |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}

## Curve

| step | training loss | agreement | acceptance length |
|---|---|---|---|
{chr(10).join(curve)}
"""


def _licence(target: str) -> str:
    name = target.removeprefix(embedded.PREFIX)
    if target.startswith(embedded.PREFIX) and name in embedded.EMBEDDED:
        model = embedded.EMBEDDED[name]
        return f"{model.license}, that of the target, whose weights it began with ({model.source})."
    return "that of the target, whose weights it began with."
