"""The edge as a small device: fewer processors and less memory for this process, before torch starts in it.

Threads that torch has are not moved by a later affinity, and a limit on virtual memory (`RLIMIT_AS`) breaks
`import torch`: so affinity comes first, and memory is limited by a cgroup where the machine grants one.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from specbench.errors import ProfileError, RunError
from specbench.profile import EdgeSpec

UNITS = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}
NAME = "specbench-"


@dataclass(frozen=True)
class _Group:
    """A memory cgroup of our own: version 1 or 2, its folder, and the one where this process was."""

    version: int
    folder: Path
    before: Path


@dataclass
class _Confined:
    cpus_before: set[int]
    group: _Group | None


_confined: _Confined | None = None


def confine(edge: EdgeSpec) -> dict[str, str]:
    """Confine this process to what the edge device has; returns what was applied, for the manifest.

    Raises:
        SpecbenchError: torch has started already, or there is no such CPU.
    """
    global _confined
    if edge.cpus is None and edge.memory_limit is None:
        return {}
    if "torch" in sys.modules:
        raise RunError(
            "edge.cpus and edge.memory_limit cannot be applied: torch is already loaded in this process",
            "start the run by 'specbench run', and import torch inside a plugin's functions",
        )
    before = os.sched_getaffinity(0)
    applied: dict[str, str] = {}
    if edge.cpus is not None:
        if missing := set(edge.cpus) - before:
            raise ProfileError(
                f"edge.cpus names CPU {min(missing)}, and this process may use "
                f"{', '.join(map(str, sorted(before)))}",
                f"for example --set edge.cpus=[{min(before)}]",
            )
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), edge.cpus)
        applied["cpus"] = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
    group = None
    if edge.memory_limit is not None:
        try:
            group = _limit_memory(size_bytes(edge.memory_limit))
            applied["memory_limit"] = f"{edge.memory_limit}, by cgroup v{group.version}"
        except OSError as error:
            applied["memory_limit"] = f"not applied: the machine grants no memory cgroup ({error})"
    _confined = _Confined(before, group)
    atexit.register(release)
    return applied


@contextlib.contextmanager
def lifted() -> Iterator[None]:
    """Start a process inside this block that shall not be confined: the cloud's."""
    if _confined is None:
        yield
        return
    mine, group = os.sched_getaffinity(0), _confined.group
    os.sched_setaffinity(0, _confined.cpus_before)
    try:
        if group:
            _enter(group.before)
        yield
    finally:
        os.sched_setaffinity(0, mine)
        if group:
            _enter(group.folder)


def release() -> None:
    """Leave the cgroup and take it away; processors stay as they are."""
    global _confined
    if _confined and _confined.group:
        with contextlib.suppress(OSError):  # what a process of ours still holds is swept by the next run
            _enter(_confined.group.before)
            _confined.group.folder.rmdir()
    _confined = None


def free_bytes() -> int | None:
    """What the limit leaves to this process; `None` where none is applied."""
    if _confined is None or _confined.group is None:
        return None
    folder = _confined.group.folder
    if _confined.group.version == 1:
        limit, used = folder / "memory.limit_in_bytes", folder / "memory.usage_in_bytes"
    else:
        limit, used = folder / "memory.max", folder / "memory.current"
    return int(limit.read_text()) - int(used.read_text())


def size_bytes(text: str) -> int:
    """Bytes of a size such as `1.5GiB`."""
    unit = next(unit for unit in UNITS if text.endswith(unit))
    return int(float(text.removesuffix(unit)) * UNITS[unit])


def _limit_memory(limit: int) -> _Group:
    """A cgroup with this limit, this process in it.

    Raises:
        OSError: the machine does not grant one.
    """
    version, own = _memory_cgroup()
    # Under version 2 a group with processes has no limited children, so ours may have to stand beside it.
    refused: OSError | None = None
    for parent in [own] if version == 1 else [own, own.parent]:
        _sweep(parent)
        folder = parent / f"{NAME}{os.getpid()}"
        try:
            if version == 2 and "memory" not in (parent / "cgroup.subtree_control").read_text().split():
                (parent / "cgroup.subtree_control").write_text("+memory")
            folder.mkdir()
            _write_limit(version, folder, limit)
            _enter(folder)
            return _Group(version, folder, own)
        except OSError as error:
            refused = refused or error
            with contextlib.suppress(OSError):
                folder.rmdir()
    assert refused is not None
    raise refused


def _write_limit(version: int, folder: Path, limit: int) -> None:
    if version == 1:
        (folder / "memory.limit_in_bytes").write_text(str(limit))
        with_swap = folder / "memory.memsw.limit_in_bytes"
        if with_swap.exists():
            with_swap.write_text(str(limit))
        return
    (folder / "memory.max").write_text(str(limit))
    swap = folder / "memory.swap.max"
    if swap.exists():
        swap.write_text("0")


def _memory_cgroup() -> tuple[int, Path]:
    """The version of the memory controller, and the folder of this process's group.

    Raises:
        OSError: there is none.
    """
    groups = [
        line.split(":", 2)
        for line in Path("/proc/self/cgroup").read_text("utf-8", "surrogateescape").splitlines()
    ]
    for version, name in ((1, "memory"), (2, "")):
        path = next((group[2] for group in groups if name in group[1].split(",")), None)
        mount = _mounted(version, name)
        if path is not None and mount:
            root, point = mount
            return version, point / os.path.relpath(path, root)
    raise OSError("there is no memory controller")


def _mounted(version: int, controller: str) -> tuple[str, Path] | None:
    """Which group is mounted as the controller's hierarchy, and where."""
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
        place, _, kind = line.partition(" - ")
        name, _, options = kind.split(" ", 2)
        if name == ("cgroup" if version == 1 else "cgroup2") and (
            version == 2 or controller in options.split(",")
        ):
            root, point = place.split()[3:5]
            return root, Path(point)
    return None


def _enter(folder: Path) -> None:
    (folder / "cgroup.procs").write_text(str(os.getpid()))


def _sweep(parent: Path) -> None:
    """Take away the groups of our processes that were killed."""
    for folder in parent.glob(f"{NAME}*"):
        if not Path(f"/proc/{folder.name.removeprefix(NAME)}").exists():
            with contextlib.suppress(OSError):
                folder.rmdir()
