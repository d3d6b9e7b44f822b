"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specbench.errors import ExitCode, SpecbenchError

ProfileOption = Annotated[str, typer.Option("--profile", "-p", help="A profile's name, or a YAML file.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override one key, such as cloud.dtype=float16; repeatable."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
PluginOption = Annotated[
    list[Path] | None, typer.Option("--plugin", metavar="FILE.py", help="A method of your own; repeatable.")
]
RunsDirOption = Annotated[
    Path, typer.Option("--runs-dir", envvar="SPECBENCH_RUNS", help="The folder that holds runs.")
]
RUNS_DIR = Path("runs")


def demand_place(path: Path) -> None:
    """Refuse a file that cannot be written, before anything is computed for it.

    Raises:
        SpecbenchError: its folder does not exist, or it is a folder itself.
    """
    if path.is_dir() or not path.parent.is_dir():
        reason = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise SpecbenchError(f"{path} cannot be written: {reason}", exit_code=ExitCode.STORE)
