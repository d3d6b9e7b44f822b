"""`specbench run`: methods over prompts, interleaved, stored and shown."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
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
    demand_methods,
    return_to,
)
from specbench.errors import ExitCode

if TYPE_CHECKING:
    from specbench.api import Method
    from specbench.bench.preparation import Prepared
    from specbench.bench.store import RunStore
    from specbench.provenance import MethodSource
    from specbench.records import Generation, Manifest, Prompt, Tuning


def run(
    methods: Annotated[
        list[str] | None, typer.Argument(metavar="METHOD", help="See 'specbench plugins'; none with --resume.")
    ] = None,
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
    repeats: Annotated[
        int | None, typer.Option(help="How often every prompt is asked (workload.repeats).")
    ] = None,
    tune_on: Annotated[
        str | None,
        typer.Option(
            metavar="CATEGORY|FILE", help="Choose the draft length on these prompts, and report on others."
        ),
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="Leave out the control; no speed-up is shown.")] = False,
    isolate: Annotated[
        bool, typer.Option("--isolate", help="Run each method in a child first, for the memory of its own.")
    ] = False,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a run that was stopped, as it was started.")
    ] = None,
    as_run: Annotated[str | None, typer.Option("--as", metavar="RUN", hidden=True)] = None,
    runs_dir: RunsDirOption = RUNS_DIR,
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run METHODS over the profile's prompts, with the control beside them, and print the table."""
    if resume and not methods:
        _go_on(resume, runs_dir)
        return
    from specbench.config import load_profile
    from specbench.models.confinement import confine

    settings = {"limit": limit, "max_new_tokens": max_new_tokens, "prompts": prompts, "repeats": repeats}
    loaded = load_profile(profile, overrides or (), workload_settings(settings))
    edge_device = confine(loaded.edge)  # before anything can import torch: a plugin may

    from specbench.registry import discover

    registry = discover(plugin or ())
    registry.demand_settings(loaded)
    names = dict.fromkeys(registry.get(name).name for name in demand_methods(methods))

    from specbench.api import CloudLostError
    from specbench.bench import tuning
    from specbench.bench.isolation import resident_bytes
    from specbench.bench.manifest import outcome
    from specbench.bench.preparation import demand_same, new_manifest, prepare
    from specbench.bench.runner import Runner
    from specbench.bench.store import RunStore
    from specbench.records import CONTROL
    from specbench.render.live import make_view

    if not only:
        names.setdefault(CONTROL)
    store, view = RunStore(runs_dir), make_view()
    for name, found in registry.plugins.items():
        if found.error:
            view.note(f"plugin {name} ({found.source}) is broken and left out: {found.error}")
    if as_run:  # a job, which may be run again: it goes on with what it had
        resume = as_run if as_run in store.ids() else None
    if resume:
        resume = store.find(resume)
    chosen = [registry.get(name) for name in names]
    sources = {name: registry.plugins[name].code for name in names}
    identity = Path(profile).stem, sys.argv[1:], sources
    split = tuning.split(loaded, tune_on) if tune_on else None
    prepared = prepare(loaded, chosen, view.note, [*split.tuning, *split.reported] if split else None)
    with closing(prepared.cloud):
        tuned = None
        if split and tune_on:
            if resume:
                tuned = tuning.of_resumed(store.read(resume).manifest, tune_on)
            else:
                tuned = _tune(prepared, chosen[0], split.tuning, tune_on, store, identity)
            view.note(f"draft length {tuned.chosen} was the fastest on {tune_on}")
            loaded = tuning.with_draft_length(loaded, tuned.chosen)
            prepared = replace(prepared, profile=loaded, prompts=tuple(split.reported))
            if split.remark:
                view.note(split.remark)
                prepared = replace(prepared, remarks=(*prepared.remarks, split.remark))
        run_id = resume or as_run or store.new_id()
        manifest = new_manifest(prepared, run_id, *identity)
        manifest = replace(manifest, tuning=tuned, edge_device=edge_device)
        done: Sequence[Generation] = ()
        if resume:
            stored, writer = store.reopen(resume, whole_prompts=as_run is not None)
            demand_same(stored.manifest, manifest)
            for fault in stored.faults:
                view.note(f"{fault}; they are asked again")
            manifest, done = stored.manifest, stored.generations
        if isolate and not manifest.isolated_rss_bytes:
            alone = resident_bytes(loaded, names, plugin or (), view.note)
            manifest = replace(manifest, isolated_rss_bytes=alone)
        runner = Runner(prepared, manifest, writer if resume else store.create(manifest), view, done)
        try:
            finished = runner.run()
        except (KeyboardInterrupt, CloudLostError) as error:
            view.close()
            if run_id in store.ids():
                _show(store, run_id, as_json, interrupted=True)
            if isinstance(error, CloudLostError):
                raise
            raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
        finally:
            view.close()
        _show_tracebacks(finished.manifest)
        _show(store, run_id, as_json)
        if code := outcome(finished.manifest):
            raise typer.Exit(int(code))


def _go_on(resume: str, runs_dir: Path) -> None:
    """Run the words that started a run once more, with those of this command behind them."""
    from specbench.bench.store import RunStore
    from specbench.cli import app

    store = RunStore(runs_dir.absolute())
    manifest = store.read(store.find(resume)).manifest
    both = (manifest.command, sys.argv[1:])
    words = [word for command in both for word in command[command.index("run") + 1 :]]
    words += ["--runs-dir", str(store.folder)]
    return_to(manifest.directory)
    command = typer.main.get_command(app).commands["run"]
    with command.make_context("specbench run", words) as context:
        command.invoke(context)


def workload_settings(options: Mapping[str, object]) -> dict[str, object]:
    """The workload's keys that options of this command set, by their dotted names."""
    names = ("limit", "max_new_tokens", "prompts", "repeats")
    return {f"workload.{name}": options[name] for name in names if options[name] is not None}


def _tune(
    prepared: Prepared,
    method: Method,
    prompts: Sequence[Prompt],
    on: str,
    store: RunStore,
    identity: tuple[str, Sequence[str], dict[str, MethodSource]],
) -> Tuning:
    """Measure every draft length in a stored run of its own, and choose."""
    from specbench.bench import tuning
    from specbench.bench.preparation import new_manifest
    from specbench.bench.runner import Runner
    from specbench.render.live import make_view

    view = make_view()
    lengths = tuning.candidates(prepared, method, prompts)
    manifest = new_manifest(lengths, store.new_id(), *identity)
    try:
        measured = Runner(lengths, manifest, store.create(manifest), view).run()
    except KeyboardInterrupt:
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    finally:
        view.close()
    return tuning.choose(measured, method.name, on)


def _show_tracebacks(manifest: Manifest) -> None:
    """With `--debug`, where the methods failed that did."""
    from specbench import cli
    from specbench.render import console

    for failure in manifest.failures if cli.show_tracebacks else ():
        if failure.traceback:
            console.note(f"{failure.method}: {failure.traceback}")


def _show(store: RunStore, run_id: str, as_json: bool, interrupted: bool = False) -> None:
    """Print what a run has; a fault of ours in doing so says first that the run is kept."""
    from specbench.cli.compare import show
    from specbench.render import console

    stored = store.read(run_id)
    if interrupted:
        kept = f"interrupted; {len(stored.generations)} generations are kept"
        console.note(f"{kept}, 'specbench run --resume {run_id}' goes on")
    if any(not generation.interrupted for generation in stored.generations):
        try:
            show([stored], as_json)
        except Exception:
            console.note(
                f"run {run_id} is stored; only showing it failed, and 'specbench compare {run_id}' does that"
            )
            raise
