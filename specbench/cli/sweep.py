"""`specbench sweep`: a grid over the profile, measured; or over a trace, replayed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.options import (
    RUNS_DIR,
    HtmlOption,
    JsonOption,
    MapsOption,
    PluginOption,
    ProfileOption,
    RunsDirOption,
    SetOption,
    demand_alone,
    demand_maps,
    return_to,
)
from specbench.errors import ExitCode, SpecbenchError

if TYPE_CHECKING:
    from specbench.bench.store import RunStore
    from specbench.bench.sweep import Sweep


def sweep(
    methods: Annotated[
        list[str] | None, typer.Argument(metavar="METHOD", help="See 'specbench plugins'.")
    ] = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over",
            metavar="KEY=VALUES",
            help="Vary a key of the profile: speculative.draft_length=1..8, link.rtt_ms=0,20,100. Repeatable.",
        ),
    ] = None,
    profile: ProfileOption = "default",
    overrides: SetOption = None,
    resume: Annotated[
        str | None, typer.Option(metavar="SWEEP", help="Go on with a sweep that was stopped.")
    ] = None,
    replayed: Annotated[
        Path | None, typer.Option("--replay", metavar="TRACE", help="Replay it instead; needs --costs.")
    ] = None,
    costs: Annotated[Path | None, typer.Option("--costs", metavar="FILE", help="A cost table.")] = None,
    plugin: PluginOption = None,
    runs_dir: RunsDirOption = RUNS_DIR,
    html: HtmlOption = None,
    charts: MapsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run METHODS under every combination of values, with the control, and show where each wins."""
    demand_maps(html, charts)
    if (replayed is None) != (costs is None):
        raise SpecbenchError(
            "--replay and --costs go together", "'specbench limits --costs FILE' measures a cost table"
        )
    demand_alone(
        "--replay" if replayed else "--resume" if resume else "",
        {
            "--set": overrides,
            "--profile": profile != "default",
            "--plugin": plugin,
            "--resume": replayed and resume,
            "METHODS": resume and methods,
            "--over": resume and over,
        },
    )
    if replayed is not None and costs is not None:
        from specbench.cli.replay import replay

        replay(replayed, costs, over, methods, html=html, charts=charts, as_json=as_json)
        return

    from specbench.analysis.over import parse_over
    from specbench.bench import sweep as sweeps
    from specbench.bench.store import RunStore
    from specbench.bench.sweeper import Sweeper
    from specbench.cluster.jobs import demand_over
    from specbench.registry import discover
    from specbench.render import console
    from specbench.render.sweeping import make_sweep_view

    store = RunStore(runs_dir.absolute())
    html, charts = (path and path.absolute() for path in (html, charts))
    if resume:
        demand_over(store, resume)
        asked = sweeps.read(store, resume)
        return_to(asked.directory)
        sweeps.demand_same_profile(asked)
    else:
        varied = parse_over(over or ())
        if not methods or not varied:
            raise SpecbenchError(
                "a sweep needs methods, and a key to vary",
                "for example 'specbench sweep speculative --over speculative.draft_length=1..8'",
            )
        registry = discover(plugin or ())
        names = tuple(registry.get(name).name for name in methods)
        files = tuple(str(path) for path in plugin or ())
        asked = sweeps.new_sweep(store, names, profile, tuple(overrides or ()), varied, files)
        console.note(f"sweep {asked.sweep_id}: {len(asked.conditions)} conditions")
    view = make_sweep_view()
    sweeper = Sweeper(asked, store, view)
    try:
        failed = sweeper.run()
    except KeyboardInterrupt:
        view.close()
        console.note(f"interrupted; 'specbench sweep --resume {asked.sweep_id}' goes on")
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    finally:
        view.close()
    code = show(sweeper.sweep, store, html, charts, as_json)
    if failed:
        codes = set(failed.values())
        is_known = len(codes) == 1 and codes <= set(ExitCode) - {ExitCode.OK}
        names = "; ".join(sweeps.in_words(asked.conditions[index]) for index in sorted(failed))
        raise SpecbenchError(
            f"{len(failed)} of {len(asked.conditions)} conditions ended early, for the reasons above: {names}",
            f"mend them, and go on with 'specbench sweep --resume {asked.sweep_id}'",
            code or (ExitCode(*codes) if is_known else ExitCode.RUN),
        )
    if code:
        raise typer.Exit(int(code))


def show(done: Sweep, store: RunStore, html: Path | None, charts: Path | None, as_json: bool) -> ExitCode:
    """What was measured so far: a map, or a row a method.

    Returns:
        The gravest of what its runs ended with.
    """
    from specbench.analysis.sweeps import swept
    from specbench.cli.replay import show_grid
    from specbench.render import console

    made = swept(done, store)
    for line in (*made.left_out, *(made.notes if not made.rows else ())):
        console.note(line)
    head = {"sweep": done.sweep_id, "runs": done.runs, "notes": made.notes}
    show_grid(made.rows, made.title, head, html, charts, as_json, made.notes)
    return made.code
