"""How a link changes over time: rate and delay, from a CSV file or always the same."""

from __future__ import annotations

import bisect
import csv
import hashlib
import math
import statistics
from dataclasses import dataclass
from importlib import resources

from specbench.errors import ExitCode, SpecbenchError
from specbench.results.environment import expanded

BUILTIN = "builtin"
COLUMNS = ["time_ms", "rate_mbps", "delay_ms"]
MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Schedule:
    """Rate (Mbit/s) and one-way delay (ms) over time. Row i holds from `starts_ms[i]` until the next row.

    After `length_ms` it starts anew. Not every rate is zero.
    """

    starts_ms: tuple[float, ...]
    rates_mbps: tuple[float, ...]
    delays_ms: tuple[float, ...]
    length_ms: float = math.inf

    @classmethod
    def constant(cls, rate_mbps: float | None, delay_ms: float) -> Schedule:
        """Always the same; a rate of `None` is no limit."""
        return cls((0.0,), (math.inf if rate_mbps is None else rate_mbps,), (delay_ms,))

    def at(self, time_ms: float) -> tuple[float, float, float]:
        """Rate and delay at a time not below zero, and until when they hold."""
        into = math.fmod(time_ms, self.length_ms)
        row = bisect.bisect_right(self.starts_ms, into) - 1
        end = self.starts_ms[row + 1] if row + 1 < len(self.starts_ms) else self.length_ms
        # Rounding must not make a row end when it begins.
        return (
            self.rates_mbps[row],
            self.delays_ms[row],
            max(time_ms + end - into, math.nextafter(time_ms, math.inf)),
        )

    @property
    def rtt_ms(self) -> float:
        """Median round trip of an empty message, over the rows."""
        return 2 * statistics.median(self.delays_ms)


def trace_sha256(source: str) -> str:
    """What tells one trace from another: the hash of its file."""
    return hashlib.sha256(_read(source)).hexdigest()


def read_trace(source: str) -> Schedule:
    """The trace `builtin`, or a CSV file with the columns time_ms, rate_mbps, delay_ms (one way).

    Times begin at 0 and rise; the last row holds as long as the one before it. A rate of 0 is an outage.

    Raises:
        SpecbenchError: the file cannot be read, or a line is not what it should be; it is named.
    """
    name = f"trace {source}"
    try:
        lines = _read(source).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise _refused(f"{name} is not UTF-8 (byte {error.start})") from error
    try:
        table = [(number, row) for number, row in enumerate(csv.reader(lines), start=1) if row]
    except csv.Error as error:
        raise _refused(f"{name} is no CSV file: {error}") from error
    if not table or [cell.strip() for cell in table[0][1]] != COLUMNS:
        raise _refused(f"{name}: its first line is not {','.join(COLUMNS)}")
    rows: list[tuple[float, float, float]] = []
    for number, row in table[1:]:
        time_ms, rate_mbps, delay_ms = _figures(row, f"{name}, line {number}")
        if not rows and time_ms != 0:
            raise _refused(f"{name}, line {number}: the first time is {time_ms:g}, and must be 0")
        if rows and time_ms <= rows[-1][0]:
            raise _refused(f"{name}, line {number}: time {time_ms:g} does not follow {rows[-1][0]:g}")
        rows.append((time_ms, rate_mbps, delay_ms))
    if not rows:
        raise _refused(f"{name} has no rows")
    if not any(rate for _, rate, _ in rows):
        raise _refused(f"{name}: every rate is 0, so nothing would ever arrive")
    starts, rates, delays = zip(*rows, strict=True)
    length = 2 * starts[-1] - starts[-2] if len(rows) > 1 else math.inf
    return Schedule(starts, rates, delays, length)


def _figures(row: list[str], where: str) -> list[float]:
    if len(row) != len(COLUMNS):
        raise _refused(f"{where}: {len(row)} fields, not {len(COLUMNS)}")
    figures = []
    for column, cell in zip(COLUMNS, row, strict=True):
        try:
            figure = float(cell)
        except ValueError:
            figure = math.nan
        if not 0 <= figure <= 1e9:
            raise _refused(f"{where}: {column} is {cell.strip()[:40]!r}, not a number from 0 to 1e9")
        figures.append(figure)
    return figures


def _read(source: str) -> bytes:
    if source == BUILTIN:
        return resources.files("specbench.cloud.link").joinpath("trace.csv").read_bytes()
    path = expanded(source)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _refused(f"trace {source} is larger than {MAX_BYTES // 1024**2} MiB")
        return path.read_bytes()
    except OSError as error:
        raise _refused(f"trace {source} cannot be read: {error.strerror}") from error


def _refused(message: str) -> SpecbenchError:
    hint = f"a trace is a CSV file of {', '.join(COLUMNS)}, times from 0 on; link.trace=builtin is one"
    return SpecbenchError(message, hint, ExitCode.PROFILE)
