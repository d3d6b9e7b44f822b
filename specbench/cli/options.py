"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.errors import SpecbenchError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from specbench.results.records import Run

RUNS_DIR = Path("runs")
A_RUN = "id, a unique beginning or end of it, name, or 'latest'"

ProfileOption = Annotated[
    str,
    typer.Option("--profile", "-p", metavar="NAME|FILE", help="Name of a profile, or path of a YAML file."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override one profile key, such as link.rtt_ms=20. Repeatable.",
    ),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", metavar="N", help="Number of prompts (default: workload.limit).")
]
MaxNewTokensOption = Annotated[
    int | None,
    typer.Option(
        "--max-new-tokens", metavar="N", help="Tokens per answer, at most (default: workload.max_new_tokens)."
    ),
]
PromptsOption = Annotated[
    str | None,
    typer.Option(
        "--prompts",
        metavar="FILE",
        help="Prompts, as JSON lines in Spec-Bench format (default: workload.prompts).",
    ),
]
RepeatsOption = Annotated[
    int | None,
    typer.Option("--repeats", metavar="N", help="Times that each prompt is asked (default: workload.repeats)."),
]
OverOption = Annotated[
    list[str] | None,
    typer.Option(
        "--over",
        metavar="KEY=VALUES",
        help="Vary one key: speculative.draft_length=1..8 or link.rtt_ms=0,20,100. Repeatable.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON to stdout instead of text.")]
PluginOption = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE", help="Python file with methods of your own. Repeatable."),
]
RunsDirOption = Annotated[
    Path, typer.Option("--runs-dir", envvar="SPECBENCH_RUNS", metavar="DIR", help="Folder that holds runs.")
]
RunsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="RUN", help=f"Runs: {A_RUN} (default: the newest run).")
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Also write the result as an HTML page.")
]
ChartsOption = Annotated[
    Path | None,
    typer.Option("--charts", metavar="DIR", help="Also write every chart to DIR, as SVG, PNG, PDF and CSV."),
]
MapsOption = Annotated[
    Path | None,
    typer.Option(
        "--charts", metavar="DIR", help="Also write the charts to DIR, as SVG, PNG, PDF and CSV, and all rows."
    ),
]
ChartWidthOption = Annotated[
    float | None,
    typer.Option(
        "--chart-width-mm",
        metavar="MM",
        help="Width of the files of --charts: 84 for one column of a paper, 176 for both (default: 176).",
    ),
]
DrawnOption = Annotated[
    str | None,
    typer.Option(
        "--methods",
        metavar="NAME,NAME",
        help="Methods that --charts draws, separated by commas (default: all).",
    ),
]
AllowUnfairOption = Annotated[
    bool, typer.Option("--allow-unfair", help="Show runs that are not comparable, with a label on every row.")
]


def workload_settings(
    limit: int | None, max_new_tokens: int | None, prompts: str | None, repeats: int | None
) -> dict[str, object]:
    """The workload's keys that options set, by their dotted names."""
    given = {"limit": limit, "max_new_tokens": max_new_tokens, "prompts": prompts, "repeats": repeats}
    return {f"workload.{name}": value for name, value in given.items() if value is not None}


def set_beside(overrides: list[str] | None, settings: Mapping[str, object]) -> tuple[str, ...]:
    """What was set beside a profile, for the title of a sweep."""
    return (*(overrides or ()), *(f"{key}={value}" for key, value in settings.items()))


def examples(*lines: str) -> str:
    """The end of a command's help: commands that work as they stand."""
    return "\n\n".join(("Examples:", *lines))


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


def demand_alone(option: str, others: Mapping[str, object]) -> None:
    """Refuse what an option leaves without effect; an empty one refuses nothing.

    Args:
        others: what was given, by the name under which it is known.

    Raises:
        SpecbenchError: one of them was given.
    """
    given = [name for name, value in others.items() if value]
    if option and given:
        raise SpecbenchError(f"{given[0]} has no effect with {option}", "leave out one of them")
