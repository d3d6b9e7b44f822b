"""`specbench job`: what the process of a sweep's condition, of `--isolate` or of a cluster's job runs."""

from __future__ import annotations

from pathlib import Path

import typer


def job(file: Path) -> None:
    """Make the run that FILE asks for, and write beside it how that ended."""
    from specbench.benchmark.execution import execute_file
    from specbench.render.live import make_view

    if code := execute_file(file, make_view()):
        raise typer.Exit(int(code))
