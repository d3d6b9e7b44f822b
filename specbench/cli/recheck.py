"""`specbench recheck`: do a bundle's figures follow from its rounds?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specbench.cli import options
from specbench.cli.options import argument
from specbench.errors import ExitCode

EXAMPLES = ("specbench recheck F.zip", "specbench recheck F.zip --json")


def recheck(
    file: Annotated[Path, argument("FILE", "Bundle to check.")], as_json: options.JsonOption = False
) -> None:
    """Compute every figure and claim of a bundle again from its raw rounds. Exits with 1 if one differs.

    Runs no model and asks no other host.
    """
    from specbench.evidence.bundle import read
    from specbench.evidence.recheck import recheck as recheck_of
    from specbench.render import console, evidence

    found = recheck_of(read(file))
    if as_json:
        console.print_json(evidence.rechecked_document(found))
    else:
        console.out.print(*evidence.rechecked(found), sep="\n")
    if not found.holds:
        raise typer.Exit(int(ExitCode.CHECK_FAILED))
