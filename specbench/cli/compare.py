"""`specbench compare`: stored runs, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.options import RUNS_DIR, JsonOption, RunsDirOption

if TYPE_CHECKING:
    from specbench.records import Run
    from specbench.results import Comparison


def compare(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Run ids; the newest run if none.")
    ] = None,
    allow_unfair: Annotated[
        bool, typer.Option("--allow-unfair", help="Show runs that are not comparable, every row labelled.")
    ] = False,
    runs_dir: RunsDirOption = RUNS_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show what stored runs say, verdict first; runs that are not comparable are refused."""
    from specbench.bench.store import RunStore

    store = RunStore(runs_dir)
    ids = [store.find(name) for name in dict.fromkeys(runs)] if runs else [store.find(None)]
    show([store.read(run_id) for run_id in ids], as_json, allow_unfair)


def show(runs: Sequence[Run], as_json: bool, allow_unfair: bool = False) -> None:
    """Print the comparison of runs, as a table or as JSON."""
    from specbench.analysis.comparison import compare as compare_runs
    from specbench.render import console

    comparison = compare_runs(runs, allow_unfair)
    if as_json:
        console.print_json(as_document(comparison))
    else:
        from specbench.render.tables import comparison_table

        console.out.print(comparison_table(comparison))


def as_document(comparison: Comparison) -> dict:
    """The documented JSON of a comparison: methods by name, unknown figures null."""
    document = asdict(comparison)
    document["methods"] = {row.pop("method"): row for row in document["methods"]}
    return document
