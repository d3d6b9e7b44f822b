"""`specbench sweep`: a grid over the profile, measured; or over a trace, replayed."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from specbench.cli import options
from specbench.cli.options import RUNS_DIR, argument, option
from specbench.errors import SpecbenchError

EXAMPLES = (
    "specbench sweep speculative --over speculative.draft_length=1..8",
    "specbench sweep speculative --over link.rtt_ms=0,20,100 --limit 12 --html sweep.html",
)


def sweep(
    methods: Annotated[
        list[str] | None, argument("METHOD", "Methods to run, as 'specbench plugins' lists them.")
    ] = None,
    over: options.OverOption = None,
    profile: options.ProfileOption = "default",
    overrides: options.SetOption = None,
    limit: options.LimitOption = None,
    max_new_tokens: options.MaxNewTokensOption = None,
    prompts: options.PromptsOption = None,
    repeats: options.RepeatsOption = None,
    resume: Annotated[
        str | None,
        option("--resume", "Resume an interrupted sweep with its original settings: its id.", "SWEEP"),
    ] = None,
    replayed: Annotated[
        Path | None, option("--replay", "Replay this trace instead of running models. Needs --costs.", "TRACE")
    ] = None,
    costs: Annotated[
        Path | None, option("--costs", "Cost table of the replay. Needs --replay.", "FILE")
    ] = None,
    plugin: options.PluginOption = None,
    runs_dir: options.RunsDirOption = RUNS_DIR,
    html: options.HtmlOption = None,
    charts: options.MapsOption = None,
    chart_width_mm: options.ChartWidthOption = None,
    drawn: options.DrawnOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Run methods under every combination of profile values and show where each one is fastest."""
    from specbench.benchmark.job import loaded_profile
    from specbench.benchmark.sweep_record import new_sweep
    from specbench.forecast.grid_making import replayed_grid
    from specbench.forecast.over import parse_over
    from specbench.render.report.output import Wanted
    from specbench.render.showing import show_grid, show_sweep
    from specbench.render.sweeping import make_sweep_view
    from specbench.results.records import CONTROL
    from specbench.results.store import RunStore
    from specbench.sweeps.measuring import ended_early, measure, to_resume

    wanted = Wanted(html, charts, chart_width_mm, drawn)
    wanted.demand([CONTROL, *methods] if methods else ())
    if (replayed is None) != (costs is None):
        raise SpecbenchError(
            "--replay and --costs go together", "'specbench limits --costs FILE' measures a cost table"
        )
    settings = options.workload_settings(limit, max_new_tokens, prompts, repeats)
    options.demand_alone(
        "--replay" if replayed else "--resume" if resume else "",
        {
            **{f"--{key.partition('.')[2].replace('_', '-')}": True for key in settings},
            "--set": overrides,
            "--profile": profile != "default",
            "--plugin": plugin,
            "--resume": replayed and resume,
            "METHODS": resume and methods,
            "--over": resume and over,
        },
    )
    if replayed is not None and costs is not None:
        chosen = options.chosen_methods(methods, None)
        show_grid(replayed_grid(replayed, costs, parse_over(over or ()), chosen), wanted, as_json)
        return
    store = RunStore(runs_dir.absolute())
    if resume:
        asked = to_resume(store, resume)
    else:
        asked = new_sweep(
            store,
            methods or (),
            *loaded_profile(profile, overrides or (), settings),
            parse_over(over or ()),
            overrides=options.set_beside(overrides, settings),
            plugins=plugin or (),
            command=tuple(sys.argv[1:]),
        )
    with closing(make_sweep_view()) as view:
        made = measure(asked, store, view)
    show_sweep(made, wanted, as_json)
    if made.failed:
        raise ended_early(made)
    if made.code:
        raise typer.Exit(int(made.code))
