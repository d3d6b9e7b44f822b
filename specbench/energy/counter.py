"""What a counter of energy is, and one that adds up the readings of a power sensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from specbench.clock import now_ms


class Counter(Protocol):
    """Energy of one part of this machine.

    Args:
        name: unique on this machine.
        source: the interface that it is read from.
        covers: `processor`, `memory`, `gpu`, `rail` or `machine`.
    """

    name: str
    source: str
    covers: str

    def joules(self) -> float:
        """Energy since the counter was found.

        Raises:
            OSError: it cannot be read any more.
        """
        ...


@dataclass(frozen=True)
class Found:
    """The counters of one interface, and in sentences why others cannot be read."""

    counters: tuple[Counter, ...] = ()
    absent: tuple[str, ...] = ()


@dataclass
class IntegratedPower:
    """Energy from a power sensor: straight lines between its readings, so it has to be read often.

    Args:
        watts: reads the sensor.
    """

    name: str
    source: str
    covers: str
    watts: Callable[[], float]
    _joules: float = 0.0
    _last: tuple[float, float] | None = field(default=None, repr=False)

    def joules(self) -> float:
        """Energy since the first reading.

        Raises:
            OSError: the sensor cannot be read.
        """
        watts, at_ms = self.watts(), now_ms()
        if self._last is not None:
            before, before_ms = self._last
            self._joules += (before + watts) / 2 * (at_ms - before_ms) / 1000
        self._last = watts, at_ms
        return self._joules


def number(path: Path) -> int:
    """The number in a file of `/sys`.

    Raises:
        OSError: it cannot be read, or holds none.
    """
    text = path.read_text()
    try:
        return int(text)
    except ValueError as error:
        raise OSError(f"{path} holds {text.strip()!r}, which is no number") from error


def word(path: Path) -> str:
    """The text in a file of `/sys`; empty where there is none that can be read."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
