"""Acceptance of drafted tokens by position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

import numpy as np

from specbench.results.derived import Acceptance
from specbench.results.records import Generation, Round
from specbench.stats.intervals import SMALLEST_STRATUM, bootstrap

HARDLY = 1e-6
"""Where nothing was ever accepted at a position, and the rate before it gave that less than this chance, the
position is taken for one behind the ends of a tree's branches."""
ENOUGH = 10  # drafts that must have come to a position
RESAMPLES = 1999  # of an interval that decides nothing


@dataclass(frozen=True)
class Survival:
    """Conditional acceptance by position; after the last known position it is constant."""

    conditional: tuple[float, ...]

    def curve(self, count: int) -> list[float]:
        """Sᵢ for i = 1 to `count`: the probability that the first i drafted tokens are all accepted."""
        known = list(self.conditional[:count])
        return list(accumulate(known + [self.conditional[-1]] * (count - len(known)), mul))

    def tokens(self, draft_length: int) -> float:
        """τ: tokens that a round commits, the target's own included."""
        return 1 + sum(self.curve(draft_length))

    @property
    def mean(self) -> float:
        """Share of judged tokens that were accepted: the acceptance rate of the formula for equal chances."""
        curve = self.curve(len(self.conditional))
        return sum(curve) / sum([1.0, *curve[:-1]])

    def tokens_if_equal(self, draft_length: int) -> float:
        """τ if every token had the same chance (Leviathan et al. 2023, equation 1)."""
        alpha = self.mean
        return draft_length + 1.0 if alpha == 1 else (1 - alpha ** (draft_length + 1)) / (1 - alpha)


def survival_of(found: Acceptance) -> Survival | None:
    """Conditional acceptance in a run, at positions with enough drafts; `None` where the target judged none."""
    known = [share for share, met in zip(found.conditional, found.judged, strict=True) if met >= ENOUGH]
    chances = tuple(share for share in known or found.conditional[:1] if share is not None)
    return Survival(chances) if chances else None


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
    counts = [(_depth(part), part.accepted or 0, _judged(part)) for part in rounds]
    conditional: list[float | None] = []
    met: list[int] = []
    seems_a_tree, before = False, 0.0
    for position in range(1, max(depth for depth, _, _ in counts) + 1):
        reached = sum(judged >= position for _, _, judged in counts)
        stood = sum(accepted >= position for _, accepted, _ in counts)
        seems_a_tree |= not stood and (1 - before) ** reached < HARDLY
        before = (stood + 1) / (reached + 2)  # of few, not taken for certain
        conditional.append(None if seems_a_tree or not reached else stood / reached)
        met.append(0 if seems_a_tree else reached)
    survival: list[float] = []
    for share in conditional:
        if share is None:
            break
        survival.append(share * (survival[-1] if survival else 1.0))
    histogram = Counter(accepted for _, accepted, _ in counts)
    return Acceptance(
        rounds=len(rounds),
        drafted_per_round=sum(part.drafted or 0 for part in rounds) / len(rounds),
        conditional=tuple(conditional),
        judged=tuple(met),
        survival=tuple(survival),
        histogram=tuple(histogram[index] for index in range(max(histogram) + 1)),
        seems_a_tree=seems_a_tree,
    )


def acceptance_figures(rounds: Sequence[Round]) -> dict[str, float | None]:
    """Sums over sums: rate and length of acceptance, and how often a draft's first token is accepted."""
    drafted = sum(part.drafted or 0 for part in rounds)
    return {
        "acceptance_rate": sum(part.accepted or 0 for part in rounds) / drafted if drafted else None,
        "acceptance_length": sum(len(part.tokens) for part in rounds) / len(rounds) if rounds else None,
        "first_accepted": sum(bool(part.accepted) for part in rounds) / len(rounds) if rounds else None,
    }


def length_interval(records: Sequence[Generation]) -> tuple[float, float] | None:
    """95 % interval of the acceptance length over prompts; `None` of fewer than four.

    The ratio of sums is linearised about itself, so that it is a mean over prompts (Cochran 1977, section 6.3).
    """
    sums: dict[str, list[int]] = {}
    for record in records:
        rounds = drafting_rounds([record])
        known = sums.setdefault(record.prompt_id, [0, 0])
        known[0] += sum(len(part.tokens) for part in rounds)
        known[1] += len(rounds)
    if len(sums) < SMALLEST_STRATUM or not any(rounds for _, rounds in sums.values()):
        return None
    tokens, rounds = np.array(list(sums.values()), float).T
    length = tokens.sum() / rounds.sum()
    values = length + (tokens - length * rounds) / rounds.mean()
    category = {record.prompt_id: record.category for record in records}
    low, high = bootstrap(values, [category[name] for name in sums], RESAMPLES).interval()
    return float(low), float(high)


def _judged(part: Round) -> int:
    """How many drafted positions the target judged one by one: those accepted and the first refused.

    A round without a token of the target's own ended at an accepted stop token; what was drafted behind it was
    neither accepted nor refused.
    """
    accepted = part.accepted or 0
    ended_inside = len(part.tokens) == accepted
    return accepted if ended_inside else min(_depth(part), accepted + 1)


def _depth(part: Round) -> int:
    """How many drafted tokens follow each other."""
    return (part.drafted or 0) if part.depth is None else part.depth
