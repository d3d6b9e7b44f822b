"""A sweep on record: a grid over fields of the profile, and which stored run each condition is."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import msgspec

from specbench.bench.store import SWEEPS, RunStore
from specbench.config import load_profile, settings_hash
from specbench.errors import ExitCode, SpecbenchError, nearest
from specbench.registry import discover

SWEEP_VERSION = 1


@dataclass(frozen=True)
class Sweep:
    """What is asked, and how far it came; a file beside the runs.

    Args:
        over: values by key of the profile.
        plugins: files of methods of one's own.
        profile_sha256: of the resolved profile before a key is varied; a sweep goes on with the same alone.
        runs: run ids by number of the condition, finished or begun; `finished` those that are.
        seconds: what a finished condition took, where it ran here and in one sitting.
        directory: the working directory of the command, from which its relative paths are seen.
    """

    sweep_id: str
    methods: tuple[str, ...]
    profile: str
    overrides: tuple[str, ...]
    over: dict[str, list]
    profile_sha256: str
    plugins: tuple[str, ...] = ()
    runs: dict[int, str] = field(default_factory=dict)
    finished: tuple[int, ...] = ()
    seconds: dict[int, float] = field(default_factory=dict)
    directory: str | None = None
    schema_version: int = SWEEP_VERSION

    @property
    def conditions(self) -> list[dict[str, object]]:
        """Every combination of values, the last key varying fastest."""
        return [dict(zip(self.over, values, strict=True)) for values in product(*self.over.values())]


def new_sweep(
    store: RunStore,
    methods: tuple[str, ...],
    profile: str,
    overrides: tuple[str, ...],
    over: dict[str, list],
    plugins: tuple[str, ...] = (),
) -> Sweep:
    """A sweep on record, every condition of which is a valid profile.

    Raises:
        SpecbenchError: the first condition that is not, or a key on which nothing depends that is measured.
    """
    if any(key.partition(".")[0] == "cluster" for key in over):
        raise SpecbenchError(
            "cluster: says where jobs run, the same for all of them, and is nothing to vary",
            "submit once for each value, with --set",
        )
    base = load_profile(profile, overrides)
    sweep = Sweep(
        sweep_id=store.new_id(),
        methods=methods,
        profile=profile,
        overrides=overrides,
        over=over,
        profile_sha256=settings_hash(base.model_dump(mode="json")),
        plugins=plugins,
        directory=str(Path.cwd()),
    )
    registry = discover([Path(each) for each in plugins])
    for condition in sweep.conditions:
        registry.demand_settings(load_profile(profile, overrides, condition))
    write(store, sweep)
    return sweep


def write(store: RunStore, sweep: Sweep) -> None:
    """Replace the sweep's file in one step.

    Raises:
        SpecbenchError: the folder cannot be written.
    """
    path = _path(store, sweep.sweep_id)
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(sweep), indent=2) + b"\n")
        partial.replace(path)
    except OSError as error:
        raise SpecbenchError(f"{path} cannot be written: {error.strerror}", exit_code=ExitCode.STORE) from error


def remove(store: RunStore, sweep_id: str) -> None:
    """Forget a sweep that was refused before anything of it ran."""
    _path(store, sweep_id).unlink(missing_ok=True)


def exists(store: RunStore, sweep_id: str) -> bool:
    """Whether a sweep of that id is on record."""
    return _path(store, sweep_id).is_file()


def read(store: RunStore, sweep_id: str) -> Sweep:
    """A sweep on record.

    Raises:
        SpecbenchError: there is none of that id, its file is damaged, or the profile is another by now.
    """
    path = _path(store, sweep_id)
    if not path.is_file():
        ids = [each.stem for each in path.parent.glob("*.json")]
        raise SpecbenchError(
            f"there is no sweep '{sweep_id}' in {store.folder}", nearest(sweep_id, ids), ExitCode.STORE
        )
    try:
        sweep = msgspec.json.decode(path.read_bytes(), type=Sweep)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SpecbenchError(f"{path} is damaged: {error}", None, ExitCode.STORE) from error
    if sweep.schema_version != SWEEP_VERSION:
        raise SpecbenchError(
            f"{path} has schema version {sweep.schema_version}; this specbench reads {SWEEP_VERSION}",
            None,
            ExitCode.STORE,
        )
    return sweep


def demand_same_profile(sweep: Sweep) -> None:
    """Refuse to go on when the profile has changed since the sweep began.

    Raises:
        SpecbenchError: it has.
    """
    now = load_profile(sweep.profile, sweep.overrides)
    if settings_hash(now.model_dump(mode="json")) != sweep.profile_sha256:
        raise SpecbenchError(
            f"sweep {sweep.sweep_id} cannot be resumed: profile {sweep.profile} has changed since",
            "restore the profile, or start a new sweep",
            ExitCode.STORE,
        )


def _path(store: RunStore, sweep_id: str) -> Path:
    return store.folder / SWEEPS / f"{sweep_id}.json"


def in_words(condition: dict[str, object]) -> str:
    """A condition on one line."""
    return ", ".join(f"{key}={value}" for key, value in condition.items())
