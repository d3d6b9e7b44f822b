"""Drafts from the sequence itself: what followed its longest suffix that occurred before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from typing_extensions import Self

from specbench.profile import Part
from specbench.speculation.loop import Drafter
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Request


class SuffixAutomaton:
    """All substrings of a growing token sequence; a token takes O(1) amortised time.

    A state stands for substrings that end at the same positions. The state that the newest one links to has the
    longest suffix that also ends earlier.

    Source: Blumer et al. 1985, "The Smallest Automaton Recognizing the Subwords of a Text".
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self._next: list[dict[int, int]] = [{}]
        self._link = [-1]
        self._length = [0]
        self._end = [0]  # of the first occurrence: tokens up to there
        self._last = 0

    def append(self, token: int) -> None:
        """Add a token to the sequence."""
        self.tokens.append(token)
        added = self._state({}, 0, self._length[self._last] + 1, len(self.tokens))
        state, self._last = self._last, added
        while state >= 0 and token not in self._next[state]:
            self._next[state][token] = added
            state = self._link[state]
        if state < 0:
            return
        reached, length = self._next[state][token], self._length[state] + 1
        if self._length[reached] == length:
            self._link[added] = reached
            return
        split = self._state(dict(self._next[reached]), self._link[reached], length, self._end[reached])
        while state >= 0 and self._next[state].get(token) == reached:
            self._next[state][token] = split
            state = self._link[state]
        self._link[reached] = self._link[added] = split

    @property
    def match(self) -> tuple[int, int]:
        """Length of the longest suffix that occurred before, and where its first occurrence ends; 0 if none."""
        state = max(self._link[self._last], 0)
        return self._length[state], self._end[state]

    def _state(self, following: dict[int, int], link: int, length: int, end: int) -> int:
        self._next.append(following)
        self._link.append(link)
        self._length.append(length)
        self._end.append(end)
        return len(self._end) - 1


MinMatch = Annotated[int, Field(ge=1, description="Shortest match to draft from, in tokens")]


class SuffixSettings(Part):
    """The options of a method that drafts from the sequence itself."""

    min_match: MinMatch = 1
    max_draft_factor: Annotated[
        float, Field(ge=1, le=64, description="Longest draft from a match, as a multiple of its length")
    ] = 2.0


class SuffixDrafter(Drafter):
    """Proposes what followed the sequence's longest suffix that occurred before, in prompt or output.

    Args:
        min_match: tokens that a suffix must have; with a shorter one nothing is proposed.
        max_draft_factor: longest draft, as a multiple of the suffix's length.
    """

    def __init__(self, min_match: int, max_draft_factor: float) -> None:
        self._min_match = min_match
        self._max_draft_factor = max_draft_factor

    @classmethod
    def of(cls, settings: SuffixSettings) -> Self:
        """The drafter that a method's options ask for."""
        return cls(settings.min_match, settings.max_draft_factor)

    def begin(self, request: Request) -> None:
        """Read the prompt."""
        self._automaton = SuffixAutomaton()
        self.commit(request.prompt_ids, 0)

    def propose(self, draft_length: int) -> Proposal:
        """The tokens behind the first occurrence, repeated where they reach the end of the sequence."""
        length, start = self._automaton.match
        if length < self._min_match:
            return Proposal()
        behind = self._automaton.tokens[start : start + draft_length]
        count = min(draft_length, int(self._max_draft_factor * length))
        while len(behind) < count:
            behind += behind[: count - len(behind)]
        return Proposal(tuple(behind[:count]))

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """Append what was committed."""
        for token in tokens:
            self._automaton.append(token)
        return 0

    def check(self) -> None:
        """Nothing: the automaton holds only what is committed."""
