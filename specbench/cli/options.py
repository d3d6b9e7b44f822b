"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specbench.errors import SpecbenchError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from specbench.method import Method
    from specbench.results.records import Run

RUNS_DIR = Path("runs")
A_RUN = "id, a unique beginning or end of it, name, or 'latest'"


def option(names: str, help: str, metavar: str | None = None, **settings: Any) -> Any:
    """An option, or a flag, which has no metavar; `names` as in `--out -o`."""
    return typer.Option(*names.split(), help=help, metavar=metavar, **settings)


def argument(metavar: str, help: str) -> Any:
    """An argument."""
    return typer.Argument(metavar=metavar, help=help)


ProfileOption = Annotated[
    str, option("--profile -p", "Name of a profile, or path of a YAML file.", "NAME|FILE")
]
SetOption = Annotated[
    list[str] | None,
    option("--set", "Override one profile key, such as link.rtt_ms=20. Repeatable.", "KEY=VALUE"),
]
LimitOption = Annotated[
    int | None, option("--limit", "Number of prompts (default: workload.limit).", "N", min=1)
]
MaxNewTokensOption = Annotated[
    int | None,
    option("--max-new-tokens", "Tokens per answer, at most (default: workload.max_new_tokens).", "N", min=1),
]
PromptsOption = Annotated[
    str | None,
    option("--prompts", "Prompts, as JSON lines in Spec-Bench format (default: workload.prompts).", "FILE"),
]
RepeatsOption = Annotated[
    int | None,
    option("--repeats", "Times that each prompt is asked (default: workload.repeats).", "N", min=1),
]
OverOption = Annotated[
    list[str] | None,
    option(
        "--over",
        "Vary one key: speculative.draft_length=1..8 or link.rtt_ms=0,20,100. Repeatable.",
        "KEY=VALUES",
    ),
]
JsonOption = Annotated[bool, option("--json", "Print JSON to stdout instead of text.")]
PluginOption = Annotated[
    list[Path] | None, option("--plugin", "Python file with methods of your own. Repeatable.", "FILE")
]
RunsDirOption = Annotated[Path, option("--runs-dir", "Folder that holds runs.", "DIR", envvar="SPECBENCH_RUNS")]
RunsArgument = Annotated[list[str] | None, argument("RUN", f"Runs: {A_RUN} (default: the newest run).")]
HtmlOption = Annotated[Path | None, option("--html", "Also write the result as an HTML page.", "FILE")]
ChartsOption = Annotated[
    Path | None, option("--charts", "Also write every chart to DIR, as SVG, PNG, PDF and CSV.", "DIR")
]
MapsOption = Annotated[
    Path | None,
    option("--charts", "Also write the charts to DIR, as SVG, PNG, PDF and CSV, and all rows.", "DIR"),
]
ChartWidthOption = Annotated[
    float | None,
    option(
        "--chart-width-mm",
        "Width of the files of --charts: 84 for one column of a paper, 176 for both (default: 176).",
        "MM",
    ),
]
DrawnOption = Annotated[
    str | None,
    option("--methods", "Methods that --charts draws, separated by commas (default: all).", "NAME,NAME"),
]
AllowUnfairOption = Annotated[
    bool, option("--allow-unfair", "Show runs that are not comparable, with a label on every row.")
]


def workload_settings(
    limit: int | None,
    max_new_tokens: int | None,
    prompts: str | None,
    repeats: int | None,
    restarts: int | None = None,
) -> dict[str, object]:
    """The workload's keys that options set, by their dotted names."""
    given = {"limit": limit, "max_new_tokens": max_new_tokens, "prompts": prompts, "repeats": repeats,
             "restarts": restarts}  # fmt: skip
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
    ids = dict.fromkeys(store.find(name) for name in (names or (None,)))
    return [store.read(run_id) for run_id in ids]


def chosen_methods(names: list[str] | None, plugins: list[Path] | None) -> list[Method]:
    """The methods that `names` names; none for what is usual.

    Raises:
        SpecbenchError: there is none of that name, or a file of `plugins` is broken.
    """
    from specbench.registry import discover
    from specbench.render import console

    registry = discover(plugins or ())
    if plugins and not names:
        console.note("methods of --plugin are left out unless --method names them")
    return [registry.get(name) for name in names or ()]


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
