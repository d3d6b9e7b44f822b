"""The profile's verification rule at work on one generation: its distributions, its random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from specbench.engine.finite import demand_finite
from specbench.profile import Options
from specbench.speculation.proposal import Proposal
from specbench.speculation.randomness import Purpose, Stream
from specbench.speculation.rules import RULES, Verdict, matching
from specbench.speculation.sampling import Scorer, probabilities, soft_probabilities

if TYPE_CHECKING:
    import torch


class Verifier:
    """Decides the target's tokens, alone or behind a draft, by one rule.

    Args:
        seed: of the generation.
        role: whose logits are judged, for messages.
    """

    def __init__(self, options: Options, seed: int, role: str = "") -> None:
        self._role = role
        self.decoding, self.speculative = options.decoding, options.speculative
        self.scorer = Scorer(options.decoding, seed, options.speculative.verification == "coupled")
        self.coins = Stream(seed, Purpose.COIN)
        self.own = Stream(seed, Purpose.OWN_TOKEN)

    @property
    def draws(self) -> tuple[int, int]:
        """Random numbers used so far, as coins and for the target's own tokens."""
        return self.coins.drawn, self.own.drawn

    def skip(self, coins: int, own: int) -> None:
        """Go on where one with these `draws` stopped."""
        self.coins.skip(coins)
        self.own.skip(own)

    def verdict(self, proposal: Proposal, logits: torch.Tensor, context: Sequence[int]) -> Verdict:
        """Which drafted tokens stand, and what follows them; without a draft a plain step.

        Args:
            logits: the target's, shape (drafted + 1, vocabulary), row i behind the first i drafted tokens; one
                row less where another proposal follows.
            context: all ids before row 0's token.

        Raises:
            NotFiniteError: no token can be read from the logits.
        """
        demand_finite(logits, self._role)
        case = PassedCase(self, proposal, self.scorer.penalized(logits, context, proposal.tokens), len(context))
        if not proposal.tokens:
            return matching((), case.choices)
        return RULES[self.speculative.verification].judge(case)


class PassedCase:
    """A draft and the target's pass over it, as `rules.rule.Case` describes it.

    Args:
        position: absolute position of the token that row 0 decides.
    """

    def __init__(self, verifier: Verifier, proposal: Proposal, logits: torch.Tensor, position: int) -> None:
        self._verifier = verifier
        self.proposal, self.logits = proposal, logits
        self.speculative = verifier.speculative
        self._position = position

    @cached_property
    def choices(self) -> list[int]:
        """The target's choice in each row."""
        return self._verifier.scorer.choose(self.logits, self._position, self._verifier.own)

    @cached_property
    def targets(self) -> torch.Tensor:
        """The distributions that are sampled from."""
        return probabilities(self.logits, self._verifier.decoding)

    @cached_property
    def soft_targets(self) -> torch.Tensor:
        """As `targets`, at temperature 1 where the decoding is greedy."""
        return soft_probabilities(self.logits, self._verifier.decoding)

    @cached_property
    def coins(self) -> list[float]:
        """A number for each drafted token."""
        return [self._verifier.coins.uniform() for _ in self.proposal.tokens]

    @cached_property
    def uniform(self) -> float:
        """A number for the target's own token."""
        return self._verifier.own.uniform()
