"""Figures of parts of a run: by length of the prompt, by position in the answer, by category."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stretch:
    """A method's figures by how much text stands before: `context` by length of prompts, `position` in answers.

    Args:
        first: the fewest tokens of the stretch; `last` the most.
        answers: that have a part in it.
        tpot_ms: of prompts the median, of positions all time over all tokens.
        speedup: the control's TPOT over the method's on the same prompts, a ratio of geometric means; not
            of positions.
        first_accepted: share of the drafts whose first token the target accepted, which is where both agree.
        length_interval: 95 % interval of `acceptance_length` over prompts; not of positions.
        read_ms: the drafter's reading of the prompt, before the first token; the median.
        draft_ms: of the time of a token behind the first, all time over all tokens, that of the drafter;
            `link_ms`, `verify_ms` and `other_ms` (the rest) likewise. Not of positions.
    """

    method: str
    of: str
    first: int
    last: int
    answers: int
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    acceptance_rate: float | None = None
    acceptance_length: float | None = None
    speedup: float | None = None
    first_accepted: float | None = None
    length_interval: tuple[float, float] | None = None
    read_ms: float | None = None
    draft_ms: float | None = None
    link_ms: float | None = None
    verify_ms: float | None = None
    other_ms: float | None = None

    @property
    def parts_ms(self) -> float | None:
        """Sum of what was recorded: drafting, link and verification; `None` where nothing was."""
        known = [part for part in (self.draft_ms, self.link_ms, self.verify_ms) if part is not None]
        return sum(known) if known else None


@dataclass(frozen=True)
class CategoryAnswers:
    """Acceptance and right answers of a method in one category of prompts.

    Args:
        prompts: that it has answered.
        acceptance_rate: as of a `Stretch`, like what follows.
        score: mean over the answers that are checked.
    """

    method: str
    category: str
    prompts: int
    acceptance_rate: float | None = None
    acceptance_length: float | None = None
    first_accepted: float | None = None
    length_interval: tuple[float, float] | None = None
    score: float | None = None
