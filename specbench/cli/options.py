"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.errors import ExitCode, SpecbenchError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from specbench.results.records import Run

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
RunsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="RUN", help="Run ids; the newest run if none.")
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Also write the map as a page of its own.")
]
ChartsOption = Annotated[
    Path | None,
    typer.Option("--charts", metavar="DIR", help="Also write every chart there, as SVG, PNG, PDF and CSV."),
]
MapsOption = Annotated[
    Path | None,
    typer.Option("--charts", metavar="DIR", help="Also write the charts there, as SVG, PNG, PDF and CSV."),
]
AllowUnfairOption = Annotated[
    bool, typer.Option("--allow-unfair", help="Show runs that are not comparable, every row labelled.")
]


@dataclass
class Debugging:
    """What `--debug` asks for."""

    shows_tracebacks: bool = False


debugging = Debugging()


def show_help(context: typer.Context) -> None:
    """The help of a command that has others below it, where none of them is named."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def stored_runs(names: list[str] | None, folder: Path) -> list[Run]:
    """The runs called `names`, each once, or the newest one.

    Raises:
        SpecbenchError: one does not exist or cannot be read.
    """
    from specbench.results.store import RunStore

    store = RunStore(folder)
    ids = dict.fromkeys(store.find(name) for name in (names or [None]))
    return [store.read(run_id) for run_id in ids]


def demand_place(path: Path) -> None:
    """Refuse a file that cannot be written, before anything is computed for it.

    Raises:
        SpecbenchError: its folder does not exist, or it is a folder itself.
    """
    if path.is_dir() or not path.parent.is_dir():
        reason = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise SpecbenchError(f"{path} cannot be written: {reason}", exit_code=ExitCode.STORE)


def demand_maps(html: Path | None, charts: Path | None) -> None:
    """Refuse a page and charts that could not be made, before anything is computed for them.

    Raises:
        SpecbenchError: `[report]` is not installed, or one of them cannot be written.
    """
    if html:
        demand_place(html)
    if charts and not next(each for each in (charts, *charts.parents) if each.exists()).is_dir():
        raise SpecbenchError(
            f"the charts cannot be written to {charts}: it is no folder", exit_code=ExitCode.STORE
        )
    if html or charts:
        from specbench.render.report import pictures

        pictures.demand_extra()


def demand_alone(option: str, others: Mapping[str, object]) -> None:
    """Refuse what an option leaves without effect; an empty one refuses nothing.

    Args:
        others: what was given, by the name under which it is known.

    Raises:
        SpecbenchError: one of them was given.
    """
    given = [name for name, value in others.items() if value]
    if option and given:
        raise SpecbenchError(f"{given[0]} has no effect beside {option}", "leave out one of them")
