"""`specbench reproduce`: a bundle's runs, made again here."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from specbench.cli import options
from specbench.cli.options import RUNS_DIR, argument, option
from specbench.errors import ExitCode

EXAMPLES = (
    "specbench reproduce F.zip --claim speculative-speedup",
    "specbench reproduce F.zip --set cloud.model=./my-target --set edge.model=./my-draft",
)


def reproduce(
    file: Annotated[Path, argument("FILE", "Bundle to reproduce.")],
    claim: Annotated[
        str | None, option("--claim", "Only the runs behind this claim (default: all claims).", "ID")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        option("--set", "Say where a model, a file or a server lies here. Repeatable.", "KEY=VALUE"),
    ] = None,
    runs_dir: options.RunsDirOption = RUNS_DIR,
    plugin: options.PluginOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Run a bundle again here: same profile, prompts and methods. Exits with 1 if a claim does not agree."""
    from specbench.evidence.bundle import read
    from specbench.evidence.reproduce import reproduce as reproduce_of
    from specbench.render import console, evidence
    from specbench.render.live import make_view
    from specbench.results.store import RunStore

    found = reproduce_of(
        read(file),
        RunStore(runs_dir),
        lambda: closing(make_view()),
        claim,
        overrides or (),
        plugin or (),
        sys.argv[1:],
    )
    if as_json:
        console.print_json(evidence.reproduced_document(found))
    else:
        console.out.print(*evidence.reproduced(found), sep="\n")
    if not found.holds:
        raise typer.Exit(int(ExitCode.CHECK_FAILED))
