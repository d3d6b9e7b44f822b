"""Reads counters of energy from a thread, so that none wraps around unseen, and says what a stretch took."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from specbench.clock import now_ms
from specbench.energy.counter import Counter
from specbench.results.records.energy import EnergyUse

LONGEST_STILL_S = 1.0  # NVML renews its counters several times in this


@dataclass(frozen=True)
class RemoteReading:
    """What a meter on another machine says.

    Args:
        meter: which one it is; each counts from its own start.
        at_ms: by the clock of that machine.
        joules: by the name of each counter.
        edges: the most that the server there was connected to since the reading before, of which its counters
            count all work.
    """

    meter: int
    at_ms: float
    joules: dict[str, float]
    edges: int


@dataclass(frozen=True)
class Mark:
    """A moment, and what each counter said then."""

    at_ms: float
    joules: dict[str, float]
    remote: RemoteReading | None = None


class EnergyMeter:
    """Joules of every counter between two moments. Use as a context manager; the thread ends with the block.

    Args:
        counters: none of them: then there is no thread.
        interval_ms: between two readings.
        remote: reads a meter on another machine at the ends of a stretch; `None` where it does not answer.
    """

    def __init__(
        self,
        counters: Sequence[Counter],
        interval_ms: float,
        remote: Callable[[], RemoteReading | None] | None = None,
    ) -> None:
        self._counters = list(counters)
        self._interval_s = interval_ms / 1000
        self._ask = remote
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="energy meter", daemon=True)
        self.idle_watts: dict[str, float] = {}
        self.lost: list[str] = []
        """Why counters could not be read to the end."""

    def __enter__(self) -> EnergyMeter:
        self.mark()
        if self._counters:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def rest(self, seconds: float) -> None:
        """Measure what each counter says while nothing is computed; takes no time without counters."""
        if not self._counters and self._ask is None:
            return
        before = self.mark()
        time.sleep(seconds)
        rested = self.since(before)
        self.idle_watts = {name: joules / rested.seconds_of(name) for name, joules in rested.joules.items()}

    def mark(self) -> Mark:
        """Read all counters; one of this machine that cannot be read is given up."""
        remote = self._ask() if self._ask else None
        return replace(self._read(), remote=remote)

    def _read(self) -> Mark:
        with self._lock:
            joules = {}
            for counter in list(self._counters):
                try:
                    joules[counter.name] = counter.joules()
                except OSError as error:
                    self._counters.remove(counter)
                    self.lost.append(f"{counter.source}: {counter.name} could not be read to the end: {error}")
            return Mark(now_ms(), joules)

    def since(self, before: Mark) -> EnergyUse:
        """What was taken since a moment, by the counters that could be read at both ends."""
        now = self._read()  # nobody waits for an answer from elsewhere within what is measured here
        joules = {name: value - before.joules[name] for name, value in now.joules.items()}
        remote_seconds = {}
        if self._ask and before.remote and (remote := self._ask()):
            seconds = (remote.at_ms - before.remote.at_ms) / 1000
            there = self._told_apart(before.remote, remote, seconds)
            remote_seconds = dict.fromkeys(there, seconds)
            joules |= there
        idle = {name: watts for name, watts in self.idle_watts.items() if name in joules}
        return EnergyUse((now.at_ms - before.at_ms) / 1000, joules, idle, remote_seconds)

    def _told_apart(self, before: RemoteReading, now: RemoteReading, seconds: float) -> dict[str, float]:
        """Joules between two readings of another machine; none where they are not those of this one's work."""
        reason = None
        taken = {
            name: value - before.joules[name] for name, value in now.joules.items() if name in before.joules
        }
        if now.meter != before.meter:
            reason = "the server was started anew"
        elif now.edges > 1:
            reason = "the server's counters may count the work for other edges too"
        elif seconds <= 0:
            reason = "the server's clock stood still or went back"
        elif any(joules < 0 for joules in taken.values()):
            reason = "a counter of the server went back"
        elif taken and seconds > LONGEST_STILL_S and not any(taken.values()):
            reason = "the server's counters stood still"
            self._ask = None  # in a shorter stretch one that is dead looks like one that is renewed seldom
        if reason:
            self.lost.append(f"the cloud's energy is unknown for some answers: {reason}")
            return {}
        return taken

    def _watch(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._read()
