"""`specbench job`: what the process of a sweep's condition, of `--isolate` or of a cluster's job runs."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import typer


def job(file: Path) -> None:
    """Make the run that FILE describes, and write beside it how it ended."""
    from specbench.render.live import make_view

    with closing(make_view()) as view:
        from specbench.benchmark.execution import execute_file

        code = execute_file(file, view)
    if code:
        raise typer.Exit(code)
