"""A run that is asked for: all that a process needs to make it, or to go on with it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from specbench.errors import SpecbenchError
from specbench.profile import Profile, load_profile
from specbench.profile.paths import anchored
from specbench.results import environment
from specbench.results.run_names import demand_name
from specbench.results.store import RunStore

JOB_VERSION = 1


@dataclass(frozen=True)
class Job:
    """All that a process needs to make one run, in whatever folder it works. A run that exists goes on.

    Args:
        profile: the resolved profile, its paths absolute.
        methods: as they were asked for; the control is added unless `only`.
        plugins: files of methods, absolute.
        whole_prompts: a run that goes on drops its last prompt unless all methods have answered it, so that no
            two answers to one prompt come from two machines.
        tuning_run_id: of the run that measures draft lengths; it sorts before `run_id`, which is the newest.
        command: the command line that asked for it, for the reader.
        restart: which of the profile's restarts this process makes, from 0; `None` where it starts them.
    """

    run_id: str
    runs_dir: str
    profile_name: str
    profile: dict
    methods: tuple[str, ...]
    plugins: tuple[str, ...] = ()
    only: bool = False
    isolate: bool = False
    tune_on: str | None = None
    tuning_run_id: str | None = None
    name: str | None = None
    whole_prompts: bool = False
    command: tuple[str, ...] = ()
    restart: int | None = None
    schema_version: int = JOB_VERSION

    @property
    def store(self) -> RunStore:
        """The folder of runs that gets this one."""
        return RunStore(Path(self.runs_dir))


def new_job(
    store: RunStore,
    profile: Profile,
    profile_name: str,
    methods: Sequence[str] | None,
    *,
    plugins: Sequence[str | Path] = (),
    only: bool = False,
    isolate: bool = False,
    tune_on: str | None = None,
    resume: str | None = None,
    name: str | None = None,
    command: Sequence[str] = (),
) -> Job:
    """A job from here: paths become absolute.

    Args:
        resume: the run that it resumes, as `RunStore.find` takes it.
        name: what the run may be called instead of its id.

    Raises:
        SpecbenchError: no method is named, the name is not valid, or there is no run to resume.
    """
    if not methods:
        raise SpecbenchError(
            "missing argument 'METHOD'", "name one, such as speculative; 'specbench plugins' lists all methods"
        )
    tuning_run_id = store.new_id() if tune_on else None
    return Job(
        run_id=store.find(resume) if resume else store.new_id(),
        runs_dir=str(store.folder.absolute()),
        profile_name=profile_name,
        profile=anchored(profile.model_dump(mode="json")),
        methods=tuple(methods),
        plugins=absolute(plugins),
        only=only,
        isolate=isolate,
        tune_on=tune_on,
        tuning_run_id=tuning_run_id,
        name=demand_name(name) if name else None,
        command=tuple(environment.encodable(word) for word in command),
    )


def loaded_profile(
    profile: Profile | str | Path,
    overrides: Sequence[str] = (),
    settings: Mapping[str, object] | None = None,
) -> tuple[Profile, str]:
    """A profile that may be named or lie in a file, and what tables call it.

    Args:
        overrides: `key=value`, and `settings` by dotted key: changes of a profile that is named.

    Raises:
        SpecbenchError: there is none of that name, or it is not valid.
    """
    if isinstance(profile, Profile):
        return profile, "custom"
    return load_profile(str(profile), overrides, settings), Path(profile).stem


def absolute(plugins: Sequence[str | Path]) -> tuple[str, ...]:
    """Files by their absolute paths, each once."""
    return tuple(dict.fromkeys(os.path.abspath(path) for path in plugins))
