"""`specbench sweep`: a grid over the profile, measured; or over a trace, replayed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.options import (
    RUNS_DIR,
    HtmlOption,
    JsonOption,
    LimitOption,
    MapsOption,
    MaxNewTokensOption,
    OverOption,
    PluginOption,
    ProfileOption,
    PromptsOption,
    RepeatsOption,
    RunsDirOption,
    SetOption,
    demand_alone,
    demand_maps,
    set_beside,
    workload_settings,
)
from specbench.errors import ExitCode, SpecbenchError

if TYPE_CHECKING:
    from specbench.sweeps.rows import Swept


EXAMPLES = (
    "specbench sweep speculative --over speculative.draft_length=1..8",
    "specbench sweep speculative --over link.rtt_ms=0,20,100 --limit 12 --html sweep.html",
)


def sweep(
    methods: Annotated[
        list[str] | None,
        typer.Argument(metavar="METHOD", help="Methods to run, as 'specbench plugins' lists them."),
    ] = None,
    over: OverOption = None,
    profile: ProfileOption = "default",
    overrides: SetOption = None,
    limit: LimitOption = None,
    max_new_tokens: MaxNewTokensOption = None,
    prompts: PromptsOption = None,
    repeats: RepeatsOption = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="SWEEP", help="Resume an interrupted sweep with its original settings: its id."),
    ] = None,
    replayed: Annotated[
        Path | None,
        typer.Option(
            "--replay", metavar="TRACE", help="Replay this trace instead of running models. Needs --costs."
        ),
    ] = None,
    costs: Annotated[
        Path | None, typer.Option("--costs", metavar="FILE", help="Cost table of the replay. Needs --replay.")
    ] = None,
    plugin: PluginOption = None,
    runs_dir: RunsDirOption = RUNS_DIR,
    html: HtmlOption = None,
    charts: MapsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run methods under every combination of profile values and show where each one is fastest."""
    demand_maps(html, charts)
    if (replayed is None) != (costs is None):
        raise SpecbenchError(
            "--replay and --costs go together", "'specbench limits --costs FILE' measures a cost table"
        )
    settings = workload_settings(limit, max_new_tokens, prompts, repeats)
    demand_alone(
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
        from specbench.cli.replay import replay

        replay(replayed, costs, over, methods, html=html, charts=charts, as_json=as_json)
        return

    from specbench.benchmark.sweep_record import new_sweep
    from specbench.forecast.over import parse_over
    from specbench.profile import load_profile
    from specbench.render.sweeping import make_sweep_view
    from specbench.results.store import RunStore
    from specbench.sweeps.rows import measure, to_resume

    store = RunStore(runs_dir.absolute())
    if resume:
        asked = to_resume(store, resume)
    else:
        asked = new_sweep(
            store,
            methods or (),
            load_profile(profile, overrides or (), settings),
            Path(profile).stem,
            parse_over(over or ()),
            overrides=set_beside(overrides, settings),
            plugins=plugin or (),
            command=tuple(sys.argv[1:]),
        )
    view = make_sweep_view()
    try:
        made = measure(asked, store, view)
    finally:
        view.close()
    show(made, html, charts, as_json)
    if made.failed:
        raise ended_early(made)
    if made.code:
        raise typer.Exit(int(made.code))


def ended_early(made: Swept) -> SpecbenchError:
    """Which conditions of a sweep did not come to their end."""
    from specbench.benchmark.sweep_record import in_words

    conditions, codes = made.sweep.conditions, {each.code for each in made.failed.values()}
    is_known = len(codes) == 1 and codes <= set(ExitCode) - {ExitCode.OK}
    names = "; ".join(in_words(conditions[index]) for index in sorted(made.failed))
    return SpecbenchError(
        f"{len(made.failed)} of {len(conditions)} conditions failed; the reasons are above: {names}",
        f"fix them, then resume with 'specbench sweep --resume {made.sweep.sweep_id}'",
        made.code or (ExitCode(*codes) if is_known else ExitCode.RUN),
    )


def show(made: Swept, html: Path | None, charts: Path | None, as_json: bool) -> None:
    """What was measured so far: a map, or a row a method."""
    from specbench.cli.replay import show_grid
    from specbench.render import console

    for line in (*made.left_out, *(made.notes if not made.rows else ())):
        console.note(line)
    head = {"sweep": made.sweep.sweep_id, "runs": made.sweep.runs, "notes": made.notes}
    show_grid(made.rows, made.title, head, html, charts, as_json, made.notes)
