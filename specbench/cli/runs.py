"""`specbench runs`: which runs and sweeps are stored, and how to delete runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from specbench.cli import options
from specbench.cli.app import App
from specbench.cli.options import A_RUN, RUNS_DIR, argument, examples, option
from specbench.errors import SpecbenchError

app = App(
    help="List stored runs and sweeps, or delete runs.",
    epilog=examples("specbench runs", "specbench runs delete before"),
)


@app.callback()
def runs(
    context: typer.Context, runs_dir: options.RunsDirOption = RUNS_DIR, as_json: options.JsonOption = False
) -> None:
    """List stored runs and sweeps, oldest first."""
    if context.invoked_subcommand is not None:
        context.obj = runs_dir
        return
    from dataclasses import asdict

    from specbench.render import console, listing
    from specbench.results.run_list import list_runs
    from specbench.results.store import RunStore
    from specbench.sweeps.listed import list_sweeps

    store = RunStore(runs_dir)
    found, sweeps = list_runs(store), list_sweeps(store)
    if as_json:
        console.print_json(
            {"runs": [asdict(each) for each in found], "sweeps": [asdict(each) for each in sweeps]}
        )
    elif found or sweeps:
        console.out.print(*listing.stored(found, sweeps))
    else:
        console.note(f"there are no runs in {runs_dir}; make one with 'specbench run speculative'")


@app.command("delete", epilog=examples("specbench runs delete before", "specbench runs delete latest --yes"))
def delete(
    context: typer.Context,
    names: Annotated[list[str], argument("RUN", f"Runs to delete: {A_RUN}.")],
    yes: Annotated[bool, option("--yes -y", "Delete without asking.")] = False,
    runs_dir: options.RunsDirOption = RUNS_DIR,
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
