"""Drafts from the sequence itself: what followed its longest suffix that occurred before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from typing_extensions import Self

from specbench.profile import Part
from specbench.speculation.cheapest_tree import cheapest_tree
from specbench.speculation.loop import Drafter
from specbench.speculation.proposal import MOST_NODES, Proposal
from specbench.speculation.request import Needs, Request


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

    @property
    def newest(self) -> int:
        """The state of the whole sequence."""
        return self._last

    def successors(self, state: int) -> list[tuple[int, int]]:
        """Tokens that followed the substrings of a state, the first to do so first, and the states led to.

        The whole sequence is followed by nothing; its longest suffix that occurred before stands for it.
        """
        while not self._next[state]:
            state = self._link[state]
        return sorted(self._next[state].items(), key=lambda found: self._end[found[1]])

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
    nodes: Annotated[
        int | None,
        Field(
            ge=1,
            le=MOST_NODES,
            description="Tokens of a tree of all that followed the match, at most; null drafts what followed "
            "it first, as a chain",
        ),
    ] = None

    @property
    def needs(self) -> Needs:
        """What drafts by these options ask of the target."""
        return Needs(trees=self.nodes is not None)


class SuffixDrafter(Drafter):
    """Proposes what followed the sequence's longest suffix that occurred before, in prompt or output.

    Args:
        min_match: tokens that a suffix must have; with a shorter one nothing is proposed.
        max_draft_factor: longest draft, as a multiple of the suffix's length.
        nodes: tokens of a tree of all that followed it; `None` for the first that did, as a chain.
    """

    def __init__(self, min_match: int, max_draft_factor: float, nodes: int | None = None) -> None:
        self._min_match = min_match
        self._max_draft_factor = max_draft_factor
        self._nodes = nodes

    @classmethod
    def of(cls, settings: SuffixSettings) -> Self:
        """The drafter that a method's options ask for."""
        return cls(settings.min_match, settings.max_draft_factor, settings.nodes)

    def begin(self, request: Request) -> None:
        """Read the prompt."""
        self._automaton = SuffixAutomaton()
        self.commit(request.prompt_ids, 0)

    def propose(self, draft_length: int) -> Proposal:
        """The tokens behind the first occurrence, or all; repeated where they reach the end of the sequence."""
        length, start = self._automaton.match
        if length < self._min_match:
            return Proposal()
        count = min(draft_length, int(self._max_draft_factor * length))
        if self._nodes is not None:
            return cheapest_tree(self._automaton.newest, self._automaton.successors, self._nodes, count)
        behind = self._automaton.tokens[start : start + draft_length]
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
