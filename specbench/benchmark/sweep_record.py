"""A sweep on record: a grid over fields of the profile, and which stored run each condition is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from specbench.atomic import read_record, write_json
from specbench.benchmark.job import Job, absolute, new_job
from specbench.errors import SpecbenchError, StoreError, nearest
from specbench.profile import Profile
from specbench.profile.loading import validated, with_changes
from specbench.profile.paths import anchored, anchored_values
from specbench.registry import discover
from specbench.results.store import SWEEPS, RunStore

SWEEP_VERSION = 2


@dataclass(frozen=True)
class Sweep:
    """What is asked, and how far it came; a file beside the runs.

    Args:
        profile: what tables call it.
        overrides: what was set beside it, for the reader.
        over: values by key of the profile.
        settings: the resolved profile before a key is varied, its paths absolute; a sweep goes on with it.
        plugins: files of methods of one's own, absolute.
        runs: run ids by number of the condition, finished or begun; `finished` those that are.
        seconds: what a finished condition took, where it ran here and in one sitting.
        command: the command line that began it, for the reader.
    """

    sweep_id: str
    methods: tuple[str, ...]
    profile: str
    overrides: tuple[str, ...]
    over: dict[str, list]
    settings: dict
    plugins: tuple[str, ...] = ()
    runs: dict[int, str] = field(default_factory=dict)
    finished: tuple[int, ...] = ()
    seconds: dict[int, float] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    schema_version: int = SWEEP_VERSION

    @property
    def conditions(self) -> list[dict[str, object]]:
        """Every combination of values, the last key varying fastest."""
        return [dict(zip(self.over, values, strict=True)) for values in product(*self.over.values())]

    def job(self, store: RunStore, index: int) -> Job:
        """The run of a condition, as a job that has no id yet.

        Raises:
            SpecbenchError: the condition is no valid profile.
        """
        base = validated(Profile, self.settings, f"the profile of sweep {self.sweep_id}")
        profile = with_changes(base, settings=self.conditions[index])
        return new_job(store, profile, self.profile, self.methods, plugins=self.plugins, command=self.command)


def new_sweep(
    store: RunStore,
    methods: Sequence[str],
    profile: Profile,
    name: str,
    over: Mapping[str, Sequence[object]],
    *,
    overrides: tuple[str, ...] = (),
    plugins: Sequence[str | Path] = (),
    command: tuple[str, ...] = (),
) -> Sweep:
    """A sweep on record, every condition of which is a valid profile.

    Args:
        name: what tables call the profile.
        over: values by key of the profile.

    Raises:
        SpecbenchError: the first condition that is not, or a key on which nothing depends that is measured.
    """
    if not methods or not over:
        raise SpecbenchError(
            "a sweep needs at least one method and one --over",
            "for example 'specbench sweep speculative --over speculative.draft_length=1..8'",
        )
    if any(key.partition(".")[0] == "cluster" for key in over):
        raise SpecbenchError(
            "cluster keys say where jobs run; they cannot be varied",
            "submit once for each value, with --set",
        )
    registry = discover([Path(path) for path in plugins])
    sweep = Sweep(
        sweep_id=store.new_id(),
        methods=tuple(registry.get(method).name for method in methods),
        profile=name,
        overrides=overrides,
        over={key: anchored_values(key, values) for key, values in over.items()},
        settings=anchored(profile.model_dump(mode="json")),
        plugins=absolute(plugins),
        command=command,
    )
    for index in range(len(sweep.conditions)):
        registry.demand_settings(validated(Profile, sweep.job(store, index).profile, f"profile {name}"))
    write(store, sweep)
    return sweep


def write(store: RunStore, sweep: Sweep) -> None:
    """Replace the sweep's file in one step.

    Raises:
        SpecbenchError: the folder cannot be written.
    """
    path = _path(store, sweep.sweep_id)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error
    write_json(path, sweep)


def remove(store: RunStore, sweep_id: str) -> None:
    """Forget a sweep that was refused before anything of it ran."""
    _path(store, sweep_id).unlink(missing_ok=True)


def exists(store: RunStore, sweep_id: str) -> bool:
    """Whether a sweep of that id is on record."""
    return _path(store, sweep_id).is_file()


def read(store: RunStore, sweep_id: str) -> Sweep:
    """A sweep on record.

    Raises:
        SpecbenchError: there is none of that id, or its file is damaged.
    """
    path = _path(store, sweep_id)
    if not path.is_file():
        raise StoreError(
            f"there is no sweep '{sweep_id}' in {store.folder}", nearest(sweep_id, known_ids(store))
        )
    return read_record(path, Sweep, SWEEP_VERSION)


def known_ids(store: RunStore) -> list[str]:
    """The ids of all sweeps on record, oldest first."""
    return sorted(path.stem for path in (store.folder / SWEEPS).glob("*.json"))


def _path(store: RunStore, sweep_id: str) -> Path:
    return store.folder / SWEEPS / f"{sweep_id}.json"


def in_words(condition: dict[str, object]) -> str:
    """A condition on one line."""
    return ", ".join(f"{key}={value}" for key, value in condition.items())
