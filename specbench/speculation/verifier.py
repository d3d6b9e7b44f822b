"""The profile's verification rule at work on one generation: its distributions, its random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from specbench.engine.finite import demand_finite
from specbench.profile import Options
from specbench.speculation import rules
from specbench.speculation.proposal import Proposal
from specbench.speculation.randomness import Purpose, Stream
from specbench.speculation.rules import Verdict
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
        self._decoding, self._speculative = options.decoding, options.speculative
        self._scorer = Scorer(options.decoding, seed, options.speculative.verification == "coupled")
        self._coins = Stream(seed, Purpose.COIN)
        self._own = Stream(seed, Purpose.OWN_TOKEN)

    @property
    def draws(self) -> tuple[int, int]:
        """Random numbers used so far, as coins and for the target's own tokens."""
        return self._coins.drawn, self._own.drawn

    def skip(self, coins: int, own: int) -> None:
        """Go on where one with these `draws` stopped."""
        self._coins.skip(coins)
        self._own.skip(own)

    def verdict(self, proposal: Proposal, logits: torch.Tensor, context: Sequence[int]) -> Verdict:
        """Which drafted tokens stand, and what follows them; without a draft a plain step.

        Args:
            logits: the target's, shape (drafted + 1, vocabulary), row i behind the first i drafted tokens; one
                row less where another proposal follows.
            context: all ids before row 0's token.

        Raises:
            NotFiniteError: no token can be read from the logits.
        """
        drafted = proposal.tokens
        demand_finite(logits, self._role)
        penalized = self._scorer.penalized(logits, context, drafted)
        rule = self._speculative.verification
        if not drafted or rule in ("greedy", "coupled"):
            return rules.matching(drafted, self._choices(penalized, len(context)))
        if rule == "rank":
            choices = self._choices(penalized, len(context))
            return rules.rank(drafted, penalized, choices, self._speculative.rank)
        if rule == "typical":
            choices = self._choices(penalized, len(context))
            targets = soft_probabilities(penalized, self._decoding)
            spec = self._speculative
            return rules.typical(drafted, targets, choices, spec.typical_epsilon, spec.typical_delta)
        targets = probabilities(penalized, self._decoding)
        coins = [self._coins.uniform() for _ in drafted]
        uniform = self._own.uniform()
        if rule == "one_hot":
            return rules.one_hot(drafted, targets, coins, uniform)
        judged = rules.block if rule == "block" else rules.rejection
        return judged(drafted, proposal.distributions, targets, coins, uniform)

    def _choices(self, penalized: torch.Tensor, position: int) -> list[int]:
        return self._scorer.choose(penalized, position, self._own)
