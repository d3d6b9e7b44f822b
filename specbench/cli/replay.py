"""`specbench replay`: any schedule, over a trace, on a virtual clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.options import HtmlOption, JsonOption, demand_place
from specbench.errors import nearest

if TYPE_CHECKING:
    from specbench.analysis.grid import Row


def replay(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="Made by 'specbench trace'.")],
    costs: Annotated[
        Path,
        typer.Option(
            "--costs", metavar="FILE", help="A cost table, such as 'specbench limits --costs' writes."
        ),
    ],
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over",
            metavar="KEY=VALUES",
            help="Vary draft_length, agreement, clients, or a value of the cost table: link.rtt_ms=0,20,100.",
        ),
    ] = None,
    methods: Annotated[
        list[str] | None, typer.Option("--method", help="Replay this one; all of them if absent. Repeatable.")
    ] = None,
    html: HtmlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay schedules over a trace with given costs: no model is loaded and no time is spent waiting."""
    from specbench.analysis.grid import AGREEMENT, CLIENTS, grid, lengths_of, parse_over
    from specbench.analysis.replay import SCHEDULES, texts_of
    from specbench.bench.traces import read_trace
    from specbench.config.costs import read_costs
    from specbench.errors import SpecbenchError
    from specbench.render import console
    from specbench.render.schedules import grid_table, map_table

    if html:
        demand_place(html)
    for name in methods or ():
        if name not in SCHEDULES:
            raise SpecbenchError(f"'{name}' cannot be replayed", nearest(name, SCHEDULES))
    varied = parse_over(over or ())
    lengths = lengths_of(varied)
    table, read = read_costs(costs), read_trace(trace)
    replayed = methods or (["speculative"] if CLIENTS in varied else list(SCHEDULES))
    rows = list(grid(texts_of(read), table, replayed, lengths, varied))
    label = "exact" if read.exact else f"approximate: {read.verification} changes the text"
    if AGREEMENT in varied:
        label = "approximate: agreement is imposed"
    title = f"{len(read.texts)} texts, {label} · replayed with the costs of {table.description or costs}"
    if html:
        write_map(rows, title, html)
    if as_json:
        console.print_json(
            {
                "trace": str(trace),
                "exact": read.exact and AGREEMENT not in varied,
                "costs": table.model_dump(mode="json"),
                "rows": [asdict(row) for row in rows],
            }
        )
        return
    console.out.print((map_table if varied else grid_table)(rows, title))


def write_map(rows: Sequence[Row], title: str, path: Path) -> None:
    """Write the page of a grid.

    Raises:
        SpecbenchError: it cannot be written.
    """
    from specbench.cli.report import write
    from specbench.render.report.maps import map_page

    write(map_page(rows, title), path)
