"""Whether a figure that was measured again agrees with the one that was claimed.

A speed-up is held against the claimed one prompt by prompt: the ratio of both, with its bootstrap interval over
prompts, as `compare --fail-if-slower` does with two runs. How prompts differ from each other is no part of it.
It disagrees where the whole interval lies beyond 3 %, which two processes with the same code differ by now and
then. Any other figure with an interval agrees where both intervals overlap, one without where both are within
3 %; counts and words agree where they are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specbench.evidence.claims import Claim, Interval
from specbench.results.records import CONTROL, Run
from specbench.stats.gate import relative
from specbench.stats.groups import Group, versus
from specbench.stats.verdict import FEWEST_PROMPTS, MARGIN, Speedup

SPEEDUP = "speedup_vs_control"
PAIRED, OVERLAP, WITHIN, EQUAL = "ratio prompt by prompt", "intervals overlap", "within 3 %", "equal"


@dataclass(frozen=True)
class Agreement:
    """One claim beside the same figure measured here.

    Args:
        rule: by what both are held against each other.
        agrees: `None` where that cannot be told.
        change: of a speed-up, the new one over the claimed one, and its interval.
    """

    claim: Claim
    here: Claim
    rule: str
    agrees: bool | None
    change: float | None = None
    change_interval: Interval | None = None

    @property
    def outcome(self) -> str:
        """The answer in words."""
        if self.agrees is None:
            return f"undecided: {FEWEST_PROMPTS} prompts are needed"
        return "agrees" if self.agrees else "does not agree"


def agreement(
    claim: Claim, here: Claim, both: tuple[Group, Group] | None, before: Sequence[Run], after: Sequence[Run]
) -> Agreement:
    """Hold one claim against what was measured.

    Args:
        both: the row that it is about, before and after, where it is about one.
        before: the runs of the bundle that were run again; `after` the new ones.
    """
    if both and claim.query.endswith(f"/{SPEEDUP}"):
        changed = relative(_speedup(both[0], before), _speedup(both[1], after))
        interval = changed.interval
        agrees = None if interval is None else interval[0] <= MARGIN and interval[1] >= 1 / MARGIN
        return Agreement(claim, here, PAIRED, agrees, changed.ratio, interval)
    if claim.interval and here.interval:
        overlaps = claim.interval[0] <= here.interval[1] and here.interval[0] <= claim.interval[1]
        return Agreement(claim, here, OVERLAP, overlaps)
    if isinstance(claim.value, float) and isinstance(here.value, float) and claim.value > 0:
        return Agreement(claim, here, WITHIN, 1 / MARGIN <= here.value / claim.value <= MARGIN)
    return Agreement(claim, here, EQUAL, claim.value == here.value)


def _speedup(group: Group, runs: Sequence[Run]) -> Speedup:
    """Of a row against the control of its own run, else of the first run that has one."""
    having = next((run for run in (group.run, *runs) if run.of(CONTROL)), group.run)
    return versus(group, Group(CONTROL, CONTROL, having, having.of(CONTROL)))
