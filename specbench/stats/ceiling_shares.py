"""How near each method came to what memory allows, and when such a share is a fault of the measurement."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from specbench.results.ceilings import Ceiling
from specbench.results.records import Generation, Run

IN_PROCESS = "in_process"
DRIFT = 1.1  # the fastest reading over the slowest, from which on it is told


def share_of_ceiling(ceiling: Ceiling, records: Sequence[Generation]) -> float | None:
    """Median over requests, each held against the speed of memory beside its prompt."""
    found = [
        ceiling.share(record.tpot_ms, ceiling.beside(record.prompt_id, record.repeat)) for record in records
    ]
    known = [share for share in found if share is not None]
    return statistics.median(known) if known else None


def tokens_range(ceiling: Ceiling) -> tuple[float, float] | None:
    """The lowest and the highest limit in tokens a second."""
    if ceiling.range is None or not ceiling.weight_bytes:
        return None
    slowest, fastest = ceiling.range
    return slowest / ceiling.weight_bytes, fastest / ceiling.weight_bytes


def ceiling_fault(
    method: str, ceiling: Ceiling, share: float | None, records: Sequence[Generation]
) -> str | None:
    """What is wrong with a share that is above 1 although every pass committed a single token."""
    one_by_one = all(len(part.tokens) == 1 for record in records for part in record.rounds[1:])
    if share is None or share <= 1 or not one_by_one:
        return None
    return told_fault(method, share, ceiling)


def told_fault(name: str, share: float, ceiling: Ceiling) -> str:
    """That a share above 1, token by token, is a fault of the measurement."""
    return (
        f"fault of measurement: {name} reached {share:.0%} of the memory ceiling, and token by token at most "
        f"100 % is possible: the bandwidth was measured too low ({told_speed(ceiling)}). Do not use this share"
    )


def told_speed(ceiling: Ceiling) -> str:
    """How fast memory was read, with the spread of it."""
    speed = f"{ceiling.bytes_per_second / 1e9:.1f} GB/s"
    if ceiling.range is None:
        return f"{speed}, measured once"
    slowest, fastest = (each / 1e9 for each in ceiling.range)
    return f"{slowest:.1f} to {fastest:.1f} GB/s in {len(ceiling.readings)} readings, median {speed}"


def drift_notes(run: Run) -> list[str]:
    """That the speed of memory changed during a run, or that nobody knows whether it did."""
    manifest, notes = run.manifest, []
    is_elsewhere = manifest.profile["cloud"].get("placement", IN_PROCESS) != IN_PROCESS
    for role, ceiling in manifest.ceilings.items():
        of_role = f"memory of the {role} in run {manifest.run_id}"
        if ceiling.range and ceiling.range[1] > DRIFT * ceiling.range[0]:
            notes.append(f"{of_role} gave {told_speed(ceiling)}; shares are taken prompt by prompt")
        elif role == "cloud" and is_elsewhere and not ceiling.readings:
            notes.append(f"{of_role} was measured once, when its server started: its ceiling knows no drift")
    return notes
