"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
