"""Each method's share of the memory ceiling, and when a share shows a measurement error."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from specbench.results.ceilings import Ceiling
from specbench.results.records import Generation, Run

IN_PROCESS = "in_process"
DRIFT = 1.1  # the fastest reading over the slowest, from which on it is told


def share_of_ceiling(ceiling: Ceiling, records: Sequence[Generation]) -> float | None:
    """Median over requests of the speed divided by the ceiling that was measured beside the prompt."""
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
    """The sentence on a share above 1 where every pass committed one token; empty otherwise."""
    one_by_one = all(len(part.tokens) == 1 for record in records for part in record.rounds[1:])
    if share is None or share <= 1 or not one_by_one:
        return None
    return told_fault(method, share, ceiling)


def told_fault(name: str, share: float, ceiling: Ceiling) -> str:
    """The sentence on a share above 1, which token by token is a measurement error."""
    return (
        f"measurement error: {name} reached {share:.0%} of the memory ceiling, but decoding token by token "
        f"cannot exceed 100 %. The measured bandwidth is too low ({told_speed(ceiling)}): do not use this share"
    )


def told_speed(ceiling: Ceiling) -> str:
    """The measured memory bandwidth with its spread, in words."""
    speed = f"{ceiling.bytes_per_second / 1e9:.1f} GB/s"
    if ceiling.range is None:
        return f"{speed}, measured once"
    slowest, fastest = (each / 1e9 for each in ceiling.range)
    return f"{slowest:.1f} to {fastest:.1f} GB/s in {len(ceiling.readings)} readings, median {speed}"


def drift_notes(run: Run) -> list[str]:
    """Notes on a memory bandwidth that changed during a run, or was measured only once."""
    manifest, notes = run.manifest, []
    is_elsewhere = manifest.profile["cloud"].get("placement", IN_PROCESS) != IN_PROCESS
    for role, ceiling in manifest.ceilings.items():
        of_role = f"memory of the {role} in run {manifest.run_id}"
        if ceiling.range and ceiling.range[1] > DRIFT * ceiling.range[0]:
            notes.append(f"{of_role} gave {told_speed(ceiling)}; shares are computed for each prompt")
        elif role == "cloud" and is_elsewhere and not ceiling.readings:
            notes.append(f"{of_role} was measured once, when its server started: drift is not included")
    return notes
