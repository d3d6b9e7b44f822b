"""`specbench replay`: any schedule, over a trace, on a virtual clock."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specbench.cli.options import ChartWidthOption, HtmlOption, JsonOption, MapsOption, PluginOption

EXAMPLES = (
    "specbench replay trace.json --costs costs.json",
    "specbench replay trace.json --costs costs.json --over link.rtt_ms=0,20,100",
)


def replay(
    trace: Annotated[
        Path,
        typer.Argument(
            metavar="TRACE",
            help="Trace that 'specbench trace' wrote; or acceptance by position of another tool's, as of "
            "'specbench plan --acceptance FILE'.",
        ),
    ],
    costs: Annotated[
        Path,
        typer.Option("--costs", metavar="FILE", help="Cost table, such as 'specbench limits --costs' writes."),
    ],
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over",
            metavar="KEY=VALUES",
            help="Vary draft_length, window, agreement, clients, a method's own option or a value of the cost "
            "table, such as link.rtt_ms=0,20,100 or methods.speculative_tree.nodes=8,16. Repeatable.",
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
    chart_width_mm: ChartWidthOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay methods over a trace on a virtual clock, with given costs and without loading a model."""
    from specbench.forecast.grid_making import replayed_grid
    from specbench.forecast.over import parse_over
    from specbench.registry import discover
    from specbench.render import console
    from specbench.render.report.output import Wanted
    from specbench.render.showing import show_grid

    wanted = Wanted(html, charts, chart_width_mm)
    wanted.demand()
    registry = discover(plugin or ())
    if plugin and not methods:
        console.note("methods of --plugin are left out unless --method names them")
    chosen = [registry.get(name) for name in methods or ()]
    show_grid(replayed_grid(trace, costs, parse_over(over or ()), chosen, oracle), wanted, as_json)
