"""What commands print of their results, and the pages and charts beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from rich.text import Text

from specbench.benchmark import sweep_record as sweeps
from specbench.benchmark.differences import outcome
from specbench.cluster.jobs import Follower, Seen
from specbench.errors import ExitCode
from specbench.forecast.grid import Grid
from specbench.forecast.plan import Plan
from specbench.render import console, precision
from specbench.render.fitting import Fitted
from specbench.render.forecasts import grid_table, map_table
from specbench.render.plans import plan_document, plan_table
from specbench.render.report import output, verified
from specbench.render.report.grids import grid_document
from specbench.render.report.lengths import length_tables
from specbench.render.results import comparison_table
from specbench.render.verify import verification, verifications
from specbench.results.records import Run
from specbench.results.store import RunStore
from specbench.stats import gate
from specbench.stats.comparison import compare
from specbench.stats.document import comparison_document
from specbench.sweeps.rows import Swept, swept
from specbench.verify.records import Result


def show_runs(
    runs: Sequence[Run],
    as_json: bool = False,
    allow_unfair: bool = False,
    details: bool = False,
    allowed: float | None = None,
) -> ExitCode:
    """Print the comparison of runs, as a table or as JSON.

    Args:
        allowed: how much slower a method may be, as a fraction; without it there is no gate.

    Returns:
        What the gate ends with.

    Raises:
        SpecbenchError: they are not comparable.
    """
    comparison = compare(runs, allow_unfair)
    gated = None if allowed is None else gate.gate(runs, allowed)
    if as_json:
        beside = {} if gated is None else {"gate": {"allowed": allowed, "methods": [*map(asdict, gated)]}}
        console.print_json({**comparison_document(comparison), **beside})
        return gate.status(gated or ())
    console.out.print(comparison_table(comparison, details))
    for each in gated or ():
        style = "red" if gate.status([each]) else ""
        console.out.print(Text(gate.in_words(each, allowed or 0.0), style))
    return gate.status(gated or ())


def show_verifications(results: Sequence[Result], as_json: bool) -> None:
    """Print verifications: one as it was printed when it was made, several side by side; or as JSON."""
    if as_json:
        console.print_json(verified.document(results))
    else:
        console.out.print(verification(results[0]) if len(results) == 1 else verifications(results))


def show_stored(store: RunStore, run_id: str, as_json: bool, interrupted: bool = False) -> None:
    """Print what a run has so far; where printing fails, say first that the run is stored."""
    run = store.read(run_id)
    if interrupted:
        kept = f"interrupted after {len(run.generations)} answers, which are stored"
        console.note(f"{kept}; resume with 'specbench run --resume {run_id}'")
    if all(generation.interrupted for generation in run.generations):
        return
    try:
        show_runs([run], as_json)
    except Exception:
        console.note(f"run {run_id} is stored; show it with 'specbench compare {run_id}'")
        raise


def show_grid(grid: Grid, wanted: output.Wanted, as_json: bool) -> None:
    """Print a grid as a table or as JSON, then write its page and its charts where they are asked for.

    Raises:
        SpecbenchError: one of them cannot be written.
    """
    rows = grid.rows
    if as_json:
        console.print_json(grid_document(rows, **grid.head))
    elif rows:
        console.out.print((map_table if rows[0].condition else grid_table)(rows, grid.title, grid.notes))
        if rows[0].condition and rows[0].measured:
            for table in length_tables(rows):
                console.out.print(f"\n{table.caption}", markup=False)
                console.out.print(Fitted(table.columns[:1], table.columns[1:], table.rows))
    if rows and wanted.html:
        output.write(output.text_of(grid, output.Format.HTML), wanted.html)
    if rows:
        output.write_charts(grid, wanted)


def show_plan(plan: Plan, as_json: bool) -> None:
    """Print a plan, as a table or as JSON."""
    if as_json:
        console.print_json(plan_document(plan))
    else:
        console.out.print(plan_table(plan))


def show_sweep(made: Swept, wanted: output.Wanted, as_json: bool) -> None:
    """Print what was measured so far, as `show_grid` does, and what is left out.

    Raises:
        SpecbenchError: a page or a chart cannot be written.
    """
    for line in (*made.left_out, *(() if made.rows else made.notes)):
        console.note(line)
    show_grid(made.grid, wanted, as_json)
    if made.rows:
        sweep_id = made.sweep.sweep_id
        console.note(f"sweep {sweep_id}; charts: specbench report {sweep_id} --charts figures")


def show_checks(reports: Sequence[dict], ok: bool, as_json: bool, briefly: bool) -> None:
    """Print what `check-dtype` found: a matrix of profiles, or all of each report."""
    if as_json:
        console.print_json(precision.document(reports, ok))
        return
    parts = (
        precision.matrix_parts(reports)
        if briefly
        else (part for report in reports for part in precision.report_parts(report))
    )
    for part in parts:
        console.out.print(part, soft_wrap=isinstance(part, Text))


def show_submission(follower: Follower, seen: Sequence[Seen], wanted: output.Wanted, as_json: bool) -> ExitCode:
    """Print what is done of a submission; of a sweep by its record, which is up to date.

    Returns:
        The gravest of what its runs ended with.

    Raises:
        SpecbenchError: a stored run is damaged, or a page cannot be written.
    """
    asked, store = follower.submission, follower.store
    if asked.command == "run":
        if seen[0].state != "done":
            return ExitCode.OK
        stored = store.read(asked.points[0].run_id)
        show_runs([stored], as_json)
        return outcome(stored.manifest)
    record = sweeps.read(store, asked.submission_id)
    done = {index: record.runs[index] for index in sorted(record.finished)}
    made = swept(replace(record, runs=done), store)
    show_sweep(made, wanted, as_json)
    return made.code
