"""`specbench runs`: which runs are stored, and how to delete some."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.app import App
from specbench.cli.options import A_RUN, RUNS_DIR, JsonOption, RunsDirOption, examples
from specbench.errors import SpecbenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from specbench.results.run_list import RunInfo

app = App(
    help="List stored runs, or delete some.",
    epilog=examples("specbench runs", "specbench runs delete before"),
)


@app.callback()
def runs(context: typer.Context, runs_dir: RunsDirOption = RUNS_DIR, as_json: JsonOption = False) -> None:
    """List stored runs, oldest first."""
    if context.invoked_subcommand is not None:
        context.obj = runs_dir
        return
    from dataclasses import asdict

    from specbench.render import console
    from specbench.results.run_list import list_runs
    from specbench.results.store import RunStore

    found = list_runs(RunStore(runs_dir))
    if as_json:
        console.print_json({"runs": [asdict(each) for each in found]})
    elif found:
        _print(found)
    else:
        console.note(f"there are no runs in {runs_dir}; make one with 'specbench run speculative'")


@app.command("delete", epilog=examples("specbench runs delete before", "specbench runs delete latest --yes"))
def delete(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="RUN", help=f"Runs to delete: {A_RUN}.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    runs_dir: RunsDirOption = RUNS_DIR,
) -> None:
    """Delete stored runs. Asks first; without a terminal --yes is needed."""
    from specbench.render import console
    from specbench.results.store import RunStore

    store = RunStore(context.obj if runs_dir == RUNS_DIR else runs_dir)
    ids = list(dict.fromkeys(store.find(name) for name in names))
    if not yes:
        if not sys.stdin.isatty():
            raise SpecbenchError(
                f"nothing deleted: without a terminal there is nobody to ask about {', '.join(ids)}",
                "add --yes",
            )
        typer.confirm(f"Delete {', '.join(ids)} from {store.folder}?", abort=True, err=True)
    for run_id in ids:
        store.delete(run_id)
        console.out.print(f"deleted: {run_id}", markup=False)


def _print(found: Sequence[RunInfo]) -> None:
    from datetime import datetime

    from specbench.render import console
    from specbench.render.fitting import Fitted

    rows = []
    for each in found:
        date = datetime.fromisoformat(each.started_at).astimezone() if each.started_at else None
        rows.append(
            (
                each.run_id,
                each.name or "-",
                f"{date:%d %b %H:%M}" if date else "-",
                f"{each.size_bytes / 1e6:.1f} MB",
                each.status,
                each.profile or "-",
                ", ".join(each.methods) or "-",
            )
        )
    columns = ("name", "started", "size", "status", "profile", "methods")
    console.out.print(Fitted(("run",), columns, rows, words=len(columns)))
