"""The profile's verification rule at work on one generation: its distributions, its random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch

from specbench.engine.finite import demand_finite
from specbench.errors import SpecbenchError
from specbench.profile import Options
from specbench.speculation.proposal import Proposal
from specbench.speculation.randomness import Purpose, Stream
from specbench.speculation.request import Request
from specbench.speculation.rules import RULES, TREE_RULES, Verdict, matching, synthetic
from specbench.speculation.sampling import Scorer, probabilities, soft_probabilities


class Verifier:
    """Decides the target's tokens, alone or behind a draft, by one rule.

    Args:
        request: that is answered.
        role: whose logits are judged, for messages.
    """

    def __init__(self, options: Options, request: Request, role: str = "") -> None:
        self._role = role
        self._has_grammar = request.grammar is not None
        self.decoding, self.speculative = options.decoding, options.speculative
        self.scorer = Scorer.of(options, request)
        self.coins = Stream(request.seed, Purpose.COIN)
        self.own = Stream(request.seed, Purpose.OWN_TOKEN)

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
            logits: the target's, shape (drafted + 1, vocabulary), rows as of `rules.rule.Case`; one less where
                another proposal follows.
            context: all ids before row 0's token.

        Raises:
            NotFiniteError: no token can be read from the logits.
            SpecbenchError: the draft is a tree, and the rule judges none.
        """
        demand_finite(logits, self._role)
        name = self.speculative.verification
        if proposal.parents and name not in TREE_RULES:
            raise SpecbenchError(
                f"speculative.verification: {name} cannot judge a tree",
                f"choose one of {', '.join(TREE_RULES)}",
            )
        case = PassedCase(self, proposal, self._penalized(proposal, logits, context), len(context))
        if not proposal.tokens:
            return matching((), case.choices)
        verdict, chances = RULES[name].judge(case), self.speculative.synthetic_acceptance
        if chances is not None:
            verdict = synthetic(case, chances)  # the rule's time is real
        return replace(verdict, forced=self._forced(proposal, case.logits)) if self._has_grammar else verdict

    @staticmethod
    def _forced(proposal: Proposal, logits: torch.Tensor) -> frozenset[int]:
        """Drafted tokens that are the only one their row can say."""
        sayable = logits > -torch.inf
        single = (sayable.sum(-1) == 1).tolist()
        parents = range(-1, len(proposal) - 1) if proposal.parents is None else proposal.parents
        nodes = enumerate(zip(parents, proposal.tokens, strict=True))
        return frozenset(
            node for node, (parent, token) in nodes if single[parent + 1] and sayable[parent + 1, token]
        )

    def _penalized(self, proposal: Proposal, logits: torch.Tensor, context: Sequence[int]) -> torch.Tensor:
        if not proposal.parents or not self.scorer.changes_logits:
            return self.scorer.penalized(logits, context, proposal.tokens)
        rows = []
        for node, row in enumerate(logits.split(1), start=-1):
            path = [proposal.tokens[each] for each in proposal.path(node)]
            rows.append(self.scorer.penalized(row, [*context, *path]))
        return torch.cat(rows)


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
        places = [self._position + depth for depth in (0, *self.proposal.depths)][: len(self.logits)]
        return self._verifier.scorer.choose(self.logits, places, self._verifier.own)

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
