"""`specbench distill`: a small draft for a target that has none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specbench.cli.options import JsonOption
from specbench.errors import ExitCode


def distill(
    target: Annotated[
        str, typer.Option("--target", metavar="MODEL", help="embedded:NAME, a folder, or a hub id.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder of the draft.")],
    layers: Annotated[
        str, typer.Option(metavar="N|LIST", help="How many of the target's layers, or which: 0,1,29.")
    ] = "3",
    draft_vocab: Annotated[int, typer.Option(help="Tokens that the draft knows.")] = 12288,
    prompts: Annotated[
        str, typer.Option(metavar="FILE.jsonl|seeds", help="What the target is asked, for training text.")
    ] = "seeds",
    minutes: Annotated[float, typer.Option(help="Time to spend: half on text, half on training.")] = 150.0,
    seed: Annotated[int, typer.Option(help="Decides prompts, samples and order.")] = 0,
    tokens: Annotated[int | None, typer.Option(help="Tokens of text, instead of half the time.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps, instead of half the time.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a small draft for a target, from text that the target writes itself; run it again to go on."""
    from specbench.distill.distillation import distil
    from specbench.distill.settings import Settings
    from specbench.render import console

    settings = Settings(target, out, layers, draft_vocab, prompts, minutes, seed, tokens, steps)
    try:
        report = distil(settings)
    except KeyboardInterrupt:
        if settings.work.is_dir():
            console.note(f"interrupted; what was made is kept in {settings.work}: the same command goes on")
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
    for column in ("held-out task", "agreement", "overlap", "accept length", "in vocabulary"):
        table.add_column(column, justify="left" if column == "held-out task" else "right")
    for task, figures in report["heldout"].items():
        table.add_row(
            task,
            f"{figures['agreement']:.3f}",
            f"{figures['overlap']:.3f}",
            f"{figures['acceptance_length']:.2f}",
            f"{figures['in_vocabulary']:.3f}",
        )
    console.out.print(table)
