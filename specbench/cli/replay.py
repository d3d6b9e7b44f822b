"""`specbench replay`: any schedule, over a trace, on a virtual clock."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.options import HtmlOption, JsonOption, MapsOption, PluginOption, demand_maps

if TYPE_CHECKING:
    from specbench.forecast.grid import Row


EXAMPLES = (
    "specbench replay trace.json --costs costs.json",
    "specbench replay trace.json --costs costs.json --over link.rtt_ms=0,20,100",
)


def replay(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="Trace that 'specbench trace' wrote.")],
    costs: Annotated[
        Path,
        typer.Option("--costs", metavar="FILE", help="Cost table, such as 'specbench limits --costs' writes."),
    ],
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over",
            metavar="KEY=VALUES",
            help="Vary draft_length, window, agreement, clients or a value of the cost table, such as "
            "link.rtt_ms=0,20,100. Repeatable.",
        ),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="METHOD",
            help="Method to replay (default: all that draft with the edge model). Repeatable.",
        ),
    ] = None,
    oracle: Annotated[
        bool,
        typer.Option(
            "--oracle", help="Also show each method's time over that of the best choices, made in hindsight."
        ),
    ] = False,
    plugin: PluginOption = None,
    html: HtmlOption = None,
    charts: MapsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay methods over a trace on a virtual clock, with given costs and without loading a model."""
    from dataclasses import asdict

    from specbench.forecast.acceptance_trace import read_trace
    from specbench.forecast.assumed import assumptions
    from specbench.forecast.grid import grid
    from specbench.forecast.over import lengths_of, parse_over, replayed_over
    from specbench.forecast.traced_drafter import texts_of
    from specbench.forecast.variants import RULE, demand_known, knowing, told, variants
    from specbench.profile.cost_table import read_costs
    from specbench.registry import discover

    demand_maps(html, charts)
    registry = discover(plugin or ())
    chosen = [registry.get(name) for name in methods or ()]
    varied = replayed_over(parse_over(over or ()))
    lengths = lengths_of(varied)
    table, read = read_costs(costs), read_trace(trace)
    ruled = {RULE: [read.verification], **varied}
    replayed = chosen or knowing(ruled)
    demand_known(replayed, ruled)
    changed = variants(texts_of(read), read.texts, varied, read.profile)
    rows = list(grid(changed, table, replayed, lengths, varied, oracle))
    is_exact, label = told(read, varied)
    title = f"{len(read.texts)} texts, {label} · replayed with the costs of {table.description or costs}"
    assumed = assumptions(table, varied)
    head = {
        "trace": str(trace),
        "exact": is_exact,
        "costs": table.model_dump(mode="json"),
        "assumed": [asdict(each) for each in assumed],
    }
    show_grid(rows, title, head, html, charts, as_json, [f"assumed: {each.text}" for each in assumed])


def show_grid(
    rows: Sequence[Row],
    title: str,
    head: dict,
    html: Path | None,
    charts: Path | None,
    as_json: bool,
    notes: Sequence[str] = (),
) -> None:
    """Print a grid as a table or JSON, then write its page and its charts where they are asked for.

    Raises:
        SpecbenchError: one of them cannot be written.
    """
    from specbench.cli.report import write
    from specbench.render import console
    from specbench.render.fitting import Fitted
    from specbench.render.forecasts import grid_table, map_table
    from specbench.render.report.grids import grid_document, write_grid
    from specbench.render.report.lengths import length_tables

    document = grid_document(rows, **head)
    if as_json:
        console.print_json(document)
    elif rows:
        console.out.print((map_table if rows[0].condition else grid_table)(rows, title, notes))
        if rows[0].condition and rows[0].measured:
            for table in length_tables(rows):
                console.out.print(f"\n{table.caption}", markup=False)
                console.out.print(Fitted(table.columns[:1], table.columns[1:], table.rows))
    if html and rows:
        from specbench.render.report.maps import map_page

        write(map_page(rows, title, notes), html)
    if charts and rows:
        for written in write_grid(rows, document, charts):
            console.note(f"wrote {written}")
