"""`specbench run`: methods over prompts, interleaved, stored and shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.options import (
    RUNS_DIR,
    JsonOption,
    PluginOption,
    ProfileOption,
    RunsDirOption,
    SetOption,
)
from specbench.errors import ExitCode

if TYPE_CHECKING:
    from specbench.bench.store import RunStore


def run(
    methods: Annotated[list[str], typer.Argument(metavar="METHOD...", help="See 'specbench plugins'.")],
    profile: ProfileOption = "default",
    overrides: SetOption = None,
    limit: Annotated[int | None, typer.Option(help="How many prompts (workload.limit).")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Tokens per answer (workload.max_new_tokens).")
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(metavar="FILE.jsonl", help="Prompts in Spec-Bench's format (workload.prompts)."),
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="Leave out the control; no speed-up is shown.")] = False,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a run that was stopped.")
    ] = None,
    runs_dir: RunsDirOption = RUNS_DIR,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run METHODS over the profile's prompts, with the control beside them, and print the table."""
    from specbench.config import load_profile
    from specbench.registry import discover

    registry = discover(plugin or ())
    settings = {
        "workload.limit": limit,
        "workload.max_new_tokens": max_new_tokens,
        "workload.prompts": prompts,
    }
    given = {key: value for key, value in settings.items() if value is not None}
    loaded = load_profile(profile, overrides or (), given)
    names = dict.fromkeys(registry.get(name).name for name in methods)

    from specbench.bench.preparation import demand_same, new_manifest, prepare
    from specbench.bench.runner import CONTROL, Runner
    from specbench.bench.store import RunStore
    from specbench.render.live import make_view

    if not only:
        names.setdefault(CONTROL)
    store, view = RunStore(runs_dir), make_view()
    for name, found in registry.plugins.items():
        if found.error:
            view.note(f"plugin {name} ({found.source}) is broken and left out: {found.error}")
    if resume:
        resume = store.find(resume)
    prepared = prepare(loaded, [registry.get(name) for name in names], view.note)
    versions = {name: registry.plugins[name].version for name in names}
    run_id = resume or store.new_id()
    manifest = new_manifest(prepared, run_id, Path(profile).stem, sys.argv[1:], versions)
    if resume:
        stored, writer = store.reopen(resume)
        demand_same(stored.manifest, manifest)
        runner = Runner(prepared, stored.manifest, writer, view, stored.generations)
    else:
        runner = Runner(prepared, manifest, store.create(manifest), view)
    try:
        finished = runner.run()
    except KeyboardInterrupt:
        view.close()
        if run_id in store.ids():
            _show(store, run_id, as_json, interrupted=True)
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    finally:
        view.close()
    _show(store, run_id, as_json)
    if finished.manifest.precision_problems and loaded.precision.parity != "off":
        raise typer.Exit(int(ExitCode.CHECK_FAILED))
    if finished.manifest.failures:
        raise typer.Exit(int(ExitCode.RUN))


def _show(store: RunStore, run_id: str, as_json: bool, interrupted: bool = False) -> None:
    from specbench.cli.compare import show

    stored = store.read(run_id)
    if interrupted:
        from specbench.render import console

        console.note(f"interrupted; {len(stored.generations)} generations are kept, --resume {run_id} goes on")
    if stored.generations:
        show([stored], as_json)
