"""A draft model that drafts ahead for several outcomes of a verification while it is in flight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from specbench.engine.base import Engine
from specbench.engine.finite import demand_finite
from specbench.engine.trees import MOST_TOKENS
from specbench.profile import Options
from specbench.speculation.drafter import ModelDrafter
from specbench.speculation.outcomes import LikelyOutcomes
from specbench.speculation.proposal import Proposal
from specbench.speculation.request import Request


@dataclass
class Branch:
    """An outcome, and what is drafted for it.

    Args:
        accepted: drafted tokens that stand by it.
        tokens: the target's own token, and the next proposal's.
        rows: of those tokens in the tree that are read.
    """

    accepted: int
    tokens: list[int]
    rows: list[int] = field(default_factory=list)


class OutcomeDrafter(ModelDrafter):
    """A draft model that drafts ahead for several outcomes of a verification.

    They grow side by side, a token each a pass, as a tree in its own cache, whose trunk is the proposal.

    Args:
        count: of outcomes.
    """

    def __init__(self, engine: Engine, options: Options, count: int) -> None:
        super().__init__(engine, options)
        self._count = count
        self._spare = MOST_TOKENS

    def begin(self, request: Request) -> None:
        """Prefill the prompt."""
        super().begin(request)
        self._outcomes = LikelyOutcomes(self._count)
        self._branches: list[Branch] = []

    @property
    def uncommitted(self) -> int:
        """Tokens that are drafted and not judged, along one branch."""
        return super().uncommitted + (len(self._branches[0].tokens) if self._branches else 0)

    def propose(self, draft_length: int) -> Proposal:
        """What was drafted for the outcome first; what is longer than the proposal is dropped."""
        proposal = super().propose(draft_length)
        del self._text[self._committed + len(proposal) :]
        self._session.truncate(min(self._session.length, len(self._text)))
        return proposal

    def draft_ahead(self) -> int | None:
        """Draft one more token for each outcome; returns that of the likeliest one.

        The first pass reads the proposal again, for what else the draft would have said at each place.
        """
        if not self._branches:
            self._branches = self._planted()
        elif self._read + len(self._branches) > MOST_TOKENS:
            return None
        else:
            self._grow()
        return self._branches[0].tokens[-1] if self._branches else None

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """Take over what the target committed; what was drafted for that outcome is the next proposal."""
        branches, self._branches = self._branches, []
        self._outcomes.observe(self._proposed[0][0] if self._proposed else 0, accepted)
        if not branches:
            return super().commit(tokens, accepted)
        ended = [branch for branch in branches if branch.accepted == accepted]
        met = next((branch for branch in ended if branch.tokens[:1] == list(tokens[accepted:])), None)
        self._session.keep([*range(accepted + 1), *(met.rows if met else ())])
        if met:
            self._text[self._committed + accepted :] = met.tokens
            self._proposed[0] = accepted, self._proposed[0][1]
        super().commit(tokens, accepted)
        return sum(len(branch.tokens) for branch in branches if branch is not met)

    def decode_alone(self) -> Iterator[int]:
        """Decode without a target, behind all that is committed."""
        self._branches = []
        return super().decode_alone()

    def _planted(self) -> list[Branch]:
        """The likeliest outcomes, each with the target's own token; none where a tree has no room for them."""
        trunk = self._text[self._committed - 1 :]
        if len(trunk) >= MOST_TOKENS:
            return []
        self._session.truncate(min(self._session.length, self._committed - 1))
        if unread := self._text[self._session.length : self._committed - 1]:  # a grammar forced them
            self._session.extend(unread)
        logits = self._session.extend(trunk, range(-1, len(trunk) - 1))
        demand_finite(logits, self._engine.role)
        penalized = self._scorer.penalized(logits, self._text[: self._committed], trunk[1:])
        scores = self._scorer.compared(penalized, self._committed)
        choices = scores.topk(min(self._count + 2, scores.shape[1])).indices.tolist()
        branches = []
        for accepted, rank in self._outcomes.of(len(trunk) - 1):
            drafted = trunk[accepted + 1 : accepted + 2]
            token = [*drafted, *(each for each in choices[accepted] if [each] != drafted)][rank]
            if token not in self._stop_ids and scores[accepted, token].isfinite():
                branches.append(Branch(accepted, [token]))
        if not branches:
            self._session.truncate(self._committed - 1)
        return branches[: MOST_TOKENS - len(trunk)]

    @property
    def _read(self) -> int:
        """Tokens of the tree that are read: the last committed one, the proposal, and branches."""
        return 1 + max(self._branches[-1].rows, default=super().uncommitted)

    def _grow(self) -> None:
        """Read the last token of every branch, and draft the one behind it."""
        first = self._read
        parents = [(branch.rows or [branch.accepted])[-1] for branch in self._branches]
        logits = self._session.extend([branch.tokens[-1] for branch in self._branches], parents)
        demand_finite(logits, self._engine.role)
        for row, branch in enumerate(self._branches):
            branch.rows.append(first + row)
            before = [*self._text[: self._committed + branch.accepted], *branch.tokens]
            penalized = self._scorer.penalized(logits[row : row + 1], before)
            branch.tokens += self._scorer.compared(penalized, len(before)).argmax(-1).tolist()
