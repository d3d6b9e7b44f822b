"""What became of drafted tokens, position by position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from specbench.records import Generation, Round
from specbench.results import Acceptance


def drafting_rounds(records: Sequence[Generation]) -> list[Round]:
    """Rounds that drafted something."""
    return [part for record in records for part in record.rounds if part.drafted]


def acceptance(records: Sequence[Generation]) -> Acceptance | None:
    """Conditional acceptance, survival and histogram; `None` where nothing was drafted.

    A position counts where the target judged it: all before it were accepted, and the text did not end there.
    """
    rounds = drafting_rounds(records)
    if not rounds:
        return None
    counts = [(part.drafted or 0, part.accepted or 0, _judged(part)) for part in rounds]
    conditional: list[float | None] = []
    met: list[int] = []
    for position in range(1, max(drafted for drafted, _, _ in counts) + 1):
        reached = sum(judged >= position for _, _, judged in counts)
        stood = sum(accepted >= position for _, accepted, _ in counts)
        conditional.append(stood / reached if reached else None)
        met.append(reached)
    survival: list[float] = []
    for share in conditional:
        if share is None:
            break
        survival.append(share * (survival[-1] if survival else 1.0))
    histogram = Counter(accepted for _, accepted, _ in counts)
    return Acceptance(
        rounds=len(rounds),
        drafted_per_round=sum(drafted for drafted, _, _ in counts) / len(rounds),
        conditional=tuple(conditional),
        judged=tuple(met),
        survival=tuple(survival),
        histogram=tuple(histogram[index] for index in range(max(histogram) + 1)),
    )


def _judged(part: Round) -> int:
    """How many drafted positions the target judged one by one: those accepted and the first refused.

    A round without a token of the target's own ended at an accepted stop token; what was drafted behind it was
    neither accepted nor refused.
    """
    drafted, accepted = part.drafted or 0, part.accepted or 0
    ended_inside = len(part.tokens) == accepted
    return accepted if ended_inside else min(drafted, accepted + 1)
