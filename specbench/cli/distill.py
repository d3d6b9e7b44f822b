"""`specbench distill`: a small draft for a target that has none."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from specbench.cli import options
from specbench.cli.options import option
from specbench.errors import ExitCode

EXAMPLES = (
    "specbench distill --target embedded:smollm2-135m-instruct --out draft --minutes 30",
    "specbench distill --kind eagle --target embedded:smollm2-135m-instruct --draft-vocab 11264 --out eagle",
)


class Kind(str, Enum):
    """What the draft reads."""

    PLAIN = "plain"
    EAGLE = "eagle"


class Loss(str, Enum):
    """What training makes small."""

    KL = "kl"
    TV = "tv"
    BOTH = "kl+tv"


def distill(
    target: Annotated[str, option("--target", "Target model: embedded:NAME, a folder, or a hub id.", "MODEL")],
    out: Annotated[Path, option("--out", "Folder to write the draft model to.", "DIR")],
    kind: Annotated[
        Kind, option("--kind", "Draft that reads tokens alone, or the target's hidden states too (EAGLE).")
    ] = Kind.PLAIN,
    layers: Annotated[
        str | None,
        option(
            "--layers",
            "Number of target layers to keep, or a list: 0,1,29 (default: 3). With --kind eagle, layers "
            "whose hidden states the draft reads (default: a low, a middle and a high one).",
            "N|LIST",
        ),
    ] = None,
    draft_vocab: Annotated[
        int | None, option("--draft-vocab", "Vocabulary size of the draft, in tokens (default: 12288).", "N")
    ] = None,
    prompts: Annotated[
        str, option("--prompts", "Prompts from which the target writes the training text.", "FILE|seeds")
    ] = "seeds",
    minutes: Annotated[
        float, option("--minutes", "Time budget in minutes; text and training get half each.", "N")
    ] = 150.0,
    loss: Annotated[
        Loss,
        option("--loss", "KL divergence, total variation distance (one minus the acceptance), or their sum."),
    ] = Loss.KL,
    start: Annotated[
        str | None,
        option("--start", "Draft to train further, with its layers and vocabulary (default: none).", "MODEL"),
    ] = None,
    seed: Annotated[int, option("--seed", "Random seed.", "N")] = 0,
    tokens: Annotated[
        int | None, option("--tokens", "Tokens of training text (default: half the time budget).", "N")
    ] = None,
    steps: Annotated[
        int | None, option("--steps", "Training steps (default: half the time budget).", "N")
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Distil a small draft model from a target. The same command resumes an interrupted distillation."""
    from specbench.distill.distillation import distil
    from specbench.distill.settings import Settings
    from specbench.render import console

    settings = Settings(
        target, out, layers, draft_vocab, prompts, minutes, seed, tokens, steps,
        kind=kind.value, loss=loss.value, start=start,
    )  # fmt: skip
    try:
        report = distil(settings)
    except KeyboardInterrupt:
        if settings.work.is_dir():
            console.note(f"interrupted; the work is kept in {settings.work}, and the same command resumes it")
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    if as_json:
        console.print_json(report)
    else:
        _print(report)


def _print(report: dict) -> None:
    from rich.table import Table

    from specbench.render import console

    title = f"draft of {report['target']}: {report['parameters'] / 1e6:.1f} M parameters, in {report['out']}"
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in ("held-out task", "agreement", "overlap", "accept length", "by position", "in vocabulary"):
        table.add_column(column, justify="left" if column == "held-out task" else "right")
    for task, figures in report["heldout"].items():
        table.add_row(
            task,
            f"{figures['agreement']:.3f}",
            f"{figures['overlap']:.3f}",
            f"{figures['acceptance_length']:.2f}",
            " ".join("-" if share is None else f"{share:.2f}" for share in figures["acceptance"]),
            f"{figures['in_vocabulary']:.3f}",
        )
    console.out.print(table)
