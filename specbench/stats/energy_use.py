"""Joules per token from the counters that were read beside each answer."""

from __future__ import annotations

from collections.abc import Sequence

from specbench.results.records import EnergyCounter, Generation, Manifest, Run
from specbench.results.records.energy import MACHINE
from specbench.results.spending import RoleEnergy


def energy_use(records: Sequence[Generation], counters: Sequence[EnergyCounter]) -> tuple[RoleEnergy, ...]:
    """Sums over sums, for each set of roles that counters are of, over the answers that all of them saw.

    A counter of a whole machine includes the others of its roles; without one, those are added up.
    """
    found = []
    for roles in dict.fromkeys(counter.roles for counter in counters):
        mine = [counter for counter in counters if counter.roles == roles]
        names = [counter.name for counter in mine if counter.covers == MACHINE][:1]
        names = names or [counter.name for counter in mine]
        uses = [
            (record.energy, len(record.tokens))
            for record in records
            if record.energy and record.energy.joules.keys() >= set(names)
        ]
        tokens = sum(count for _, count in uses)
        if not tokens:
            continue
        joules = sum(use.joules[name] for use, _ in uses for name in names)
        seconds = sum(use.seconds_of(names[0]) for use, _ in uses)
        above = watts = None
        if seconds and all(use.idle_watts.keys() >= set(names) for use, _ in uses):
            idle = sum(use.idle_watts[name] * use.seconds_of(name) for use, _ in uses for name in names)
            above, watts = (joules - idle) / tokens, idle / seconds
        found.append(RoleEnergy(roles, tuple(names), joules / tokens, above, watts))
    return tuple(found)


def energy_notes(runs: Sequence[Run]) -> list[str]:
    """Why energy is unknown, and where two roles share a counter; a sentence each."""
    reasons = dict.fromkeys(reason for run in runs for reason in run.manifest.energy_absent)
    notes = [f"energy: {reason}" for reason in reasons]
    if any(_is_joint(run.manifest) for run in runs):
        notes.append(
            "energy of edge and cloud is joint: both compute on one machine, whose counters they share"
        )
    return notes


def _is_joint(manifest: Manifest) -> bool:
    return any(len(counter.roles) > 1 for counter in manifest.energy_counters)
