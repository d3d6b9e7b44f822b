"""Acceptance as a server counts it, in our definitions, and whether its figures can all be true."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from specbench.servers.answers import Completion
from specbench.servers.base import Server, total
from specbench.verify.records import Acceptance


def acceptance(
    server: Server, completions: Sequence[Completion], counters: dict[str, int] | None = None
) -> Acceptance | None:
    """What a server says of its drafts; `None` where it says nothing, or drafted nothing.

    Args:
        counters: of all requests together, where it counts so.
    """
    reporting = [each for each in completions if each.drafted]
    if counters is not None:
        drafted, accepted, passes = (counters.get(name) for name in ("drafted", "accepted", "passes"))
        said: int | None = None
    else:
        drafted = total(each.drafted for each in reporting)
        accepted = total(each.accepted for each in reporting)
        passes = total(each.passes for each in reporting)
        said = total(each.said for each in reporting)
    if not drafted or accepted is None:
        return None
    length = (said - len(reporting)) / passes if passes and said else None
    if counters is not None and passes:
        length = 1 + accepted / passes
    found = [] if counters is not None else _contradictions(reporting)
    if accepted > drafted:
        found.insert(0, f"it counts {accepted} accepted of {drafted} drafted tokens")
    return Acceptance(
        server.url, drafted, accepted, passes, accepted / drafted, length, server.counts, tuple(found)
    )


def _contradictions(completions: Sequence[Completion]) -> list[str]:
    found = []
    passes = [each for completion in completions for each in _passes(completion)]
    wrong = [(tokens, accepted) for tokens, accepted in passes if tokens != accepted + 1]
    if wrong:
        came, counted = (sum(column) for column in zip(*wrong, strict=True))
        found.append(
            f"{len(wrong)} of {len(passes)} passes brought {came} tokens, {came - len(wrong)} of them accepted "
            f"and one its own each, but it counts {counted} accepted"
        )
    fewer = [each for each in completions if _missing(each) > 0]
    if fewer:
        found.append(
            f"{len(fewer)} of {len(completions)} answers have more tokens than it accepted and made itself"
        )
    more = [each for each in completions if each.draft_limit and -_missing(each) > each.draft_limit]
    if more:
        found.append(
            f"in {len(more)} of {len(completions)} answers it accepted more tokens than it said, by more than "
            "one draft"
        )
    return found


def _missing(completion: Completion) -> int:
    """Tokens behind the first that were neither accepted nor a pass's own; negative where too many were.

    Drafted tokens behind the end of an answer may have been accepted too, one draft of them.
    """
    if completion.said is None or completion.passes is None or completion.accepted is None:
        return 0
    return completion.said - 1 - completion.accepted - completion.passes


def _passes(completion: Completion) -> list[tuple[int, int]]:
    """Tokens of each verification, and how many the server counts as accepted; the last may be cut off."""
    if completion.passes is None:
        return []
    found, before = [], 0
    for number, group in enumerate(groupby(completion.parts, key=lambda part: part.clock_ms)):
        members = list(group[1])
        accepted = members[-1].accepted or 0
        if number:
            found.append((sum(part.size or 0 for part in members), accepted - before))
        before = accepted
    return found[:-1]
