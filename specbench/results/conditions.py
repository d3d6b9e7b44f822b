"""Reads what a run is measured in, from the kernel's files and from git; nothing here is guessed."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from specbench.results.records import Conditions, Surroundings

VECTORS = re.compile(r"sse4_2|avx\w*|fma|f16c|vnni\w*|amx_\w+|neon|asimd\w*|sve\w*|i8mm|bf16")
CHECKOUT = Path(__file__).parents[2]
SECONDS = 5
Number = TypeVar("Number", int, float)


def surroundings(root: Path = Path("/")) -> Surroundings:
    """What a run that begins now is measured in.

    Args:
        root: the folder above `proc` and `sys`.
    """
    return Surroundings(
        begun=conditions(root),
        commit=code_commit(),
        kernel=platform.release() or None,
        packages=packages(),
        instructions=_instructions(root),
        caches=_caches(root),
        swap_bytes=_memory(root, "SwapTotal"),
    )


def conditions(root: Path = Path("/")) -> Conditions:
    """The machine now: clocks, throttling, load and free memory, as far as they can be read."""
    cpus = root / "sys/devices/system/cpu"
    cores = sorted(cpus.glob("cpu[0-9]*"), key=lambda path: int(path.name[3:]))
    return Conditions(
        at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        clock_mhz=_clocks(root, cores),
        most_mhz=_over(max, (_mhz(core / "cpufreq/cpuinfo_max_freq") for core in cores)),
        governor=",".join(
            dict.fromkeys(filter(None, (_text(core / "cpufreq/scaling_governor") for core in cores)))
        )
        or None,
        boost=_boost(cpus),
        throttled=_over(
            sum,
            (
                _whole(_text(core / "thermal_throttle" / name))
                for core in cores
                for name in ("core_throttle_count", "package_throttle_count")
            ),
        ),
        quota_ms=_quota_ms(root),
        stolen_ms=_stolen_ms(root),
        temperature_c=_over(
            max,
            (_scaled(_text(path), 1e-3) for path in (root / "sys/class/thermal").glob("thermal_zone*/temp")),
        ),
        load=_load(root),
        available_bytes=_memory(root, "MemAvailable"),
    )


@functools.cache
def packages() -> dict[str, str]:
    """Versions of all installed distributions, by their normalised names."""
    found = {
        re.sub(r"[-_.]+", "-", each.name).lower(): each.version
        for each in importlib.metadata.distributions()
        if each.name  # a broken installation has none
    }
    return dict(sorted(found.items()))


@functools.cache
def code_commit() -> str | None:
    """The commit that this code is of: of its checkout, or as pip recorded it; `None` where nobody knows."""
    if (CHECKOUT / ".git").exists():
        command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude", "*"]
        try:
            done = subprocess.run(
                command, cwd=CHECKOUT, capture_output=True, text=True, timeout=SECONDS, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() or None
    try:
        recorded = json.loads(importlib.metadata.distribution("specbench").read_text("direct_url.json") or "{}")
        return str(recorded["vcs_info"]["commit_id"])
    except (importlib.metadata.PackageNotFoundError, KeyError, TypeError, ValueError):
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _whole(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"\d+", text) else None


def _scaled(text: str | None, by: float) -> float | None:
    return float(text) * by if text and re.fullmatch(r"-?\d+", text) else None


def _over(reduce: Callable[[list[Number]], Number], values: Iterable[Number | None]) -> Number | None:
    known = [value for value in values if value is not None]
    return reduce(known) if known else None


def _mhz(path: Path) -> float | None:
    return _scaled(_text(path), 1e-3)


def _clocks(root: Path, cores: list[Path]) -> tuple[float, ...]:
    found = [mhz for core in cores if (mhz := _mhz(core / "cpufreq/scaling_cur_freq")) is not None]
    if not found:  # guests of a hypervisor have no cpufreq
        lines = re.findall(r"^cpu MHz\s*: ([\d.]+)$", _text(root / "proc/cpuinfo") or "", re.MULTILINE)
        found = [float(each) for each in lines]
    return tuple(found)


def _boost(cpus: Path) -> bool | None:
    boost, no_turbo = _whole(_text(cpus / "cpufreq/boost")), _whole(_text(cpus / "intel_pstate/no_turbo"))
    if boost is not None:
        return boost == 1
    return None if no_turbo is None else no_turbo == 0


def _quota_ms(root: Path) -> float | None:
    found = re.search(r"^throttled_usec (\d+)$", _text(root / "sys/fs/cgroup/cpu.stat") or "", re.MULTILINE)
    return int(found[1]) / 1000 if found else None


def _stolen_ms(root: Path) -> float | None:
    fields = re.search(r"^cpu +((?:\d+ ?){8,})", _text(root / "proc/stat") or "", re.MULTILINE)
    return 1000 * int(fields[1].split()[7]) / os.sysconf("SC_CLK_TCK") if fields else None


def _load(root: Path) -> float | None:
    found = re.match(r"\d+\.\d+", _text(root / "proc/loadavg") or "")
    return float(found[0]) if found else None


def _memory(root: Path, name: str) -> int | None:
    found = re.search(rf"^{name}:\s*(\d+) kB$", _text(root / "proc/meminfo") or "", re.MULTILINE)
    return 1024 * int(found[1]) if found else None


def _instructions(root: Path) -> tuple[str, ...]:
    flags = re.search(r"^(?:flags|Features)\s*: (.+)$", _text(root / "proc/cpuinfo") or "", re.MULTILINE)
    return tuple(sorted(filter(VECTORS.fullmatch, flags[1].split()))) if flags else ()


def _caches(root: Path) -> dict[str, str]:
    found = {}
    for each in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_text(each / name) for name in ("level", "type", "size"))
        if level and kind and size:
            found[f"L{level} {kind}"] = size
    return found
