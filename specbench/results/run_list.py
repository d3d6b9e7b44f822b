"""All stored runs at a glance, damaged ones included."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from specbench.results.store import MANIFEST, RunStore

DAMAGED = "damaged"


@dataclass(frozen=True)
class RunInfo:
    """One stored run. What a damaged manifest does not say is `None`.

    Args:
        started_at: ISO 8601, in UTC.
        status: `finished`, `failed`, `interrupted`, `running`, or `damaged`.
        size_bytes: of all files in the run's folder.
    """

    run_id: str
    name: str | None
    started_at: str | None
    profile: str | None
    methods: tuple[str, ...]
    status: str
    size_bytes: int


class _Head(msgspec.Struct):
    """The fields of a manifest that the list shows."""

    profile_name: str
    methods: tuple[str, ...]
    started_at: str
    status: str
    name: str | None = None


def list_runs(store: RunStore) -> list[RunInfo]:
    """All runs of a store, oldest first."""
    return [_info(store, run_id) for run_id in store.ids()]


def _info(store: RunStore, run_id: str) -> RunInfo:
    folder = store.folder / run_id
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    try:
        head = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=_Head)
    except (OSError, msgspec.MsgspecError):
        return RunInfo(run_id, None, None, None, (), DAMAGED, size)
    return RunInfo(run_id, head.name, head.started_at, head.profile_name, head.methods, head.status, size)
