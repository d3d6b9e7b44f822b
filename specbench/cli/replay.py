"""`specbench replay`: any schedule, over a trace, on a virtual clock."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from specbench.cli import options
from specbench.cli.options import argument, option

EXAMPLES = (
    "specbench replay trace.json --costs costs.json",
    "specbench replay trace.json --costs costs.json --over link.rtt_ms=0,20,100",
)


def replay(
    trace: Annotated[
        Path,
        argument(
            "TRACE",
            "Trace that 'specbench trace' wrote; or acceptance by position of another tool's, as of "
            "'specbench plan --acceptance FILE'.",
        ),
    ],
    costs: Annotated[Path, option("--costs", "Cost table, such as 'specbench limits --costs' writes.", "FILE")],
    over: Annotated[
        list[str] | None,
        option(
            "--over",
            "Vary draft_length, window, agreement, clients, a method's own option or a value of the cost "
            "table, such as link.rtt_ms=0,20,100 or methods.speculative_tree.nodes=8,16. Repeatable.",
            "KEY=VALUES",
        ),
    ] = None,
    methods: Annotated[
        list[str] | None,
        option(
            "--method", "Method to replay (default: all that draft with the edge model). Repeatable.", "METHOD"
        ),
    ] = None,
    oracle: Annotated[
        bool,
        option("--oracle", "Also show each method's time over that of the best choices, made in hindsight."),
    ] = False,
    plugin: options.PluginOption = None,
    html: options.HtmlOption = None,
    charts: options.MapsOption = None,
    chart_width_mm: options.ChartWidthOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Replay methods over a trace on a virtual clock, with given costs and without loading a model."""
    from specbench.forecast.grid_making import replayed_grid
    from specbench.forecast.over import parse_over
    from specbench.render.report.output import Wanted
    from specbench.render.showing import show_grid

    wanted = Wanted(html, charts, chart_width_mm)
    wanted.demand()
    chosen = options.chosen_methods(methods, plugin)
    show_grid(replayed_grid(trace, costs, parse_over(over or ()), chosen, oracle), wanted, as_json)
