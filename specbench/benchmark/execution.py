"""Makes a run: checks, tuning, resuming, isolation and measuring, in that order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from specbench.api import Method
from specbench.benchmark import job as jobs
from specbench.benchmark import tuning
from specbench.benchmark.child_process import Ended, keep_end
from specbench.benchmark.differences import outcome
from specbench.benchmark.isolation import resident_bytes
from specbench.benchmark.job import Job
from specbench.benchmark.new_manifest import new_manifest
from specbench.benchmark.observer import Observer, Unobserved
from specbench.benchmark.preparation import Prepared, prepare
from specbench.benchmark.restarts import restarted
from specbench.benchmark.resuming import demand_same, resumed_job
from specbench.benchmark.runner import Runner
from specbench.benchmark.workload import with_prompts
from specbench.models.confinement import confine
from specbench.profile import Profile
from specbench.profile.loading import validated, with_changes
from specbench.registry import Registry, discover
from specbench.results.records import CONTROL, Generation, Manifest, Prompt, Run, Tuning
from specbench.results.store import RunStore

logger = logging.getLogger(__name__)


def run(
    profile: Profile | str | Path = "default",
    methods: Sequence[str] = (),
    *,
    prompts: Sequence[str | Prompt] | str | Path | None = None,
    observer: Observer | None = None,
    runs_dir: str | Path = "runs",
    plugins: Sequence[str | Path] = (),
    only: bool = False,
    isolate: bool = False,
    tune_on: str | None = None,
    resume: str | None = None,
    name: str | None = None,
) -> Run:
    """Run methods over prompts, interleaved, with the control beside them, and store what is measured.

    Args:
        profile: a loaded profile, the name of a shipped one, or a YAML file.
        methods: names, as `specbench plugins` lists them; with `resume` those of that run when absent.
        prompts: texts, prompts of several turns, or a file; those of the profile's workload when absent.
        observer: is told of each round and prompt.
        runs_dir: the folder that holds runs.
        plugins: Python files with methods of your own.
        only: leave out the control; then there is no speed-up.
        isolate: also run each method in its own process to measure its peak memory.
        tune_on: a category or a file of prompts on which the draft length is chosen.
        resume: an interrupted run to go on with, by its id or name.
        name: what the run may be called instead of its id.

    Raises:
        SpecbenchError: the first thing that is wrong. A method that fails does not raise: it is in
            `Run.manifest.failures`.
        KeyboardInterrupt: Ctrl-C; what was finished is stored, and `resume` goes on.
    """
    store = RunStore(Path(runs_dir))
    if resume and not methods:
        job = resumed_job(store, resume, plugins=plugins, isolate=isolate, tune_on=tune_on)
    else:
        loaded, profile_name = jobs.loaded_profile(profile)
        job = jobs.new_job(
            store,
            with_prompts(loaded, prompts, store.folder),
            profile_name,
            methods,
            plugins=plugins,
            only=only,
            isolate=isolate,
            tune_on=tune_on,
            resume=resume,
            name=name,
        )
    return execute(job, observer or Unobserved())


def execute(job: Job, observer: Observer) -> Run:
    """Make the run that a job asks for, or go on with it.

    A run with restarts is made by processes of its own, of whose rounds the observer is not told.

    Raises:
        SpecbenchError: the first thing that is wrong.
        CloudLostError: the cloud is gone; what was finished is stored.
        KeyboardInterrupt: Ctrl-C; what was finished is stored.
    """
    if job.restart is None and job.profile.get("workload", {}).get("restarts", 1) > 1:
        observer.close()
        return restarted(job)
    profile, registry, edge_device = _begun(job)
    chosen = [registry.get(name) for name in _names(job, registry)]
    for name, found in registry.plugins.items():
        if found.error:
            logger.info(f"plugin {name} ({found.source}) is broken and skipped: {found.error}")
    store = job.store
    goes_on = job.run_id in store.ids()
    split = tuning.split(profile, job.tune_on) if job.tune_on else None
    prepared = prepare(profile, chosen, [*split.tuning, *split.reported] if split else None)
    prepared = replace(prepared, restart=job.restart)
    with closing(prepared.cloud):
        tuned = None
        if split:
            if goes_on:
                tuned = tuning.of_resumed(store.read(job.run_id).manifest, split.on)
            else:
                tuned = _tune(job, prepared, registry, split, observer)
            logger.info(f"draft length {tuned.chosen} was the fastest on {tuned.on}")
            if split.remark:
                logger.info(split.remark)
            prepared = tuning.as_chosen(prepared, split, tuned)
        manifest = replace(
            _manifest(job, prepared, registry, job.run_id), tuning=tuned, edge_device=edge_device
        )
        done: Sequence[Generation] = ()
        if goes_on:
            run, writer = store.reopen(job.run_id, job.whole_prompts)
            demand_same(run.manifest, manifest)
            for fault in run.faults:
                logger.info(f"{fault}; asking them again")
            manifest, done = run.manifest, run.generations
            if manifest.status == "finished":
                logger.info(f"run {job.run_id} is finished: every answer is there, and none is asked again")
        if job.isolate and not manifest.isolated_rss_bytes:
            alone = resident_bytes(job, prepared.profile, manifest.methods)
            manifest = replace(manifest, isolated_rss_bytes=alone)
        if not goes_on:
            writer = store.create(manifest)
        try:
            return Runner(prepared, manifest, writer, observer, done).run()
        finally:
            observer.close()


def execute_file(file: Path, observer: Observer) -> int:
    """Make the run of a job's file, and write beside it how that ended.

    Returns:
        the exit status of a run that came to its end.

    Raises:
        SpecbenchError: as of `execute`.
        KeyboardInterrupt: passed on once the run is stored.
    """
    return keep_end(file, lambda job: Ended("done", outcome(execute(job, observer).manifest))).code


def _names(job: Job, registry: Registry) -> list[str]:
    names = dict.fromkeys(registry.get(name).name for name in job.methods)
    if not job.only:
        names.setdefault(CONTROL)
    return list(names)


def _manifest(job: Job, prepared: Prepared, registry: Registry, run_id: str) -> Manifest:
    sources = {name: registry.plugins[name].code for name in _names(job, registry)}
    manifest = new_manifest(prepared, run_id, job.profile_name, job.command, sources)
    return replace(manifest, plugin_files=job.plugins, name=job.name)


def _tune(job: Job, prepared: Prepared, registry: Registry, split: tuning.Split, observer: Observer) -> Tuning:
    """Measure every draft length in a stored run of its own, and choose."""
    method = prepared.methods[0]
    lengths = tuning.candidates(prepared, method, split.tuning)
    tuning_id = job.tuning_run_id or job.store.new_id()
    return tuning.choose(_measured(job, lengths, registry, tuning_id, observer), method.name, split.on)


def run_variants(job: Job, variants: Callable[[Method], Sequence[Method]], observer: Observer) -> Run:
    """Measure variants of a job's first method beside the control, interleaved, in a stored run.

    Args:
        variants: makes them of that method.

    Raises:
        SpecbenchError: the first thing that is wrong.
        KeyboardInterrupt: Ctrl-C; what was finished is stored.
    """
    profile, registry, _ = _begun(job)
    methods = [registry.get(CONTROL), *variants(registry.get(job.methods[0]))]
    prepared = prepare(profile, methods)
    with closing(prepared.cloud):
        return _measured(job, prepared, registry, job.run_id, observer)


def _begun(job: Job) -> tuple[Profile, Registry, dict[str, str]]:
    """The job's profile, the methods there are, and what was applied of the edge's device."""
    profile = validated(Profile, job.profile, f"profile {job.profile_name}")
    edge_device = confine(profile.edge)  # before anything can import torch: a plugin may
    registry = discover([Path(path) for path in job.plugins])
    registry.demand_settings(profile)
    return profile, registry, edge_device


def _measured(job: Job, prepared: Prepared, registry: Registry, run_id: str, observer: Observer) -> Run:
    """A stored run that nothing but a choice of settings is made from: one process is enough for it."""
    once = with_changes(prepared.profile, settings={"workload.restarts": 1})
    prepared = replace(prepared, profile=once, restart=None)
    manifest = replace(_manifest(job, prepared, registry, run_id), name=None)
    try:
        return Runner(prepared, manifest, job.store.create(manifest), observer).run()
    finally:
        observer.close()
