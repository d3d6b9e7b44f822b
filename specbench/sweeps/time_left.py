"""How far a sweep is, and how long it may still take."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from math import sqrt

LIKELY = 2.0  # standard errors either way: about 95 % of the time


@dataclass(frozen=True)
class SweepProgress:
    """How far a sweep is; a snapshot.

    Args:
        condition: what runs now, in words.
        done: conditions that are over, however they ended.
        seconds: what conditions took, of those that are known to have run from beginning to end.
        elapsed_s: since this condition began, or went on.
        answers: stored of this condition, of so many that it asks for; both 0 until its run is on record.
        answers_before: those of them that were stored before it went on.
        pace_s: what an answer of this condition takes, by those that were stored meanwhile; `None` before.
    """

    condition: str
    total: int
    done: int = 0
    seconds: tuple[float, ...] = ()
    elapsed_s: float = 0.0
    answers: int = 0
    answers_before: int = 0
    answers_total: int = 0
    pace_s: float | None = None

    @property
    def here_s(self) -> float | None:
        """What this condition may still take: by its own pace, else by the others; `None` if unknown."""
        if self.pace_s is not None:
            return self.pace_s * (self.answers_total - self.answers)
        return max(0.0, statistics.fmean(self.seconds) - self.elapsed_s) if self.seconds else None

    @property
    def left_s(self) -> tuple[float, float | None] | None:
        """What the whole sweep may still take, and ± how much; `None` while nothing is known.

        Conditions run in a random order, so those that ran are a sample of all: twice the standard error of the
        sum of the others, by the spread of those known, which two at least must be.
        """
        here_s, known = self.here_s, list(self.seconds)
        if here_s is None:
            return None
        if self.pace_s is not None:
            known.append(self.elapsed_s + here_s + self.pace_s * self.answers_before)
        others = self.total - self.done - 1
        left_s = here_s + others * statistics.fmean(known)
        if not others:
            return left_s, None
        if len(known) < 2:
            return left_s, None
        error_s = others * statistics.stdev(known) * sqrt(1 / len(known) + 1 / others)
        return left_s, LIKELY * error_s


def in_words(left: tuple[float, float | None] | None) -> str:
    """An estimate as one says it."""
    if left is None:
        return "time left unknown"
    left_s, error_s = left
    unit, size = ("min", 60) if left_s > 120 else ("s", 1)
    line = f"about {left_s / size:.0f} {unit} left"
    return line if error_s is None else f"{line}, ± {error_s / size:.0f}"
