"""Going on with a stored run: the job that it was, held against what is asked now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from specbench.benchmark.differences import differences
from specbench.benchmark.job import Job, new_job
from specbench.errors import StoreError
from specbench.profile import Profile
from specbench.profile.loading import validated, with_changes
from specbench.results.records import Manifest
from specbench.results.store import RunStore


def resumed_job(
    store: RunStore,
    run_id: str,
    *,
    overrides: Sequence[str] = (),
    settings: dict[str, object] | None = None,
    plugins: Sequence[str | Path] = (),
    isolate: bool = False,
    tune_on: str | None = None,
    command: Sequence[str] = (),
) -> Job:
    """The job that a stored run was, to go on with it; overrides and settings come on top of its profile.

    Raises:
        SpecbenchError: there is no such run, it is a tuning, or its manifest or a change is no valid profile.
    """
    manifest = store.read(store.find(run_id)).manifest
    if manifest.is_tuning:
        raise StoreError(
            f"run {manifest.run_id} cannot be resumed: it measures candidates of a tuning",
            "tune again with the command of its manifest",
        )
    profile = validated(Profile, manifest.profile, f"the profile of run {manifest.run_id}")
    tuned_on = manifest.tuning.on if manifest.tuning else None
    return new_job(
        store,
        with_changes(profile, overrides, settings),
        manifest.profile_name,
        manifest.methods,
        plugins=(*manifest.plugin_files, *plugins),
        only=True,  # the control is among its methods, or was left out
        isolate=isolate,
        tune_on=tune_on or tuned_on,
        resume=manifest.run_id,
        command=command,
    )


def demand_same(stored: Manifest, current: Manifest) -> None:
    """Refuse to go on with a run whose settings were others.

    Raises:
        SpecbenchError: naming the first setting that differs, and both values.
    """
    difference: tuple[str, object, object] | None
    if sorted(stored.methods) != sorted(current.methods):
        difference = ("methods", ", ".join(stored.methods), ", ".join(current.methods))
    else:
        difference = next(differences(stored, current, ["memory"]), None)
    if difference:
        field, before, now = difference
        raise StoreError(
            f"run {stored.run_id} cannot be resumed: {field} was {before}, and is {now}",
            "repeat the command of its manifest, or start a new run",
        )
