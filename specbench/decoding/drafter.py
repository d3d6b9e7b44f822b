"""The edge as a method sees it: a draft model that proposes, and takes back what was refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from specbench.config import Options
from specbench.decoding import verification
from specbench.decoding.engine import Engine
from specbench.decoding.proposal import DraftDistribution, Proposal
from specbench.decoding.randomness import Purpose, Stream
from specbench.decoding.request import Request
from specbench.decoding.sampling import Scorer, probabilities, soft_probabilities

if TYPE_CHECKING:
    import torch


class Drafter:
    """Proposes tokens behind all that is committed.

    Between calls the cache holds a prefix of the committed tokens; what it lacks is read when the next
    draft begins.
    """

    def __init__(self, engine: Engine, options: Options) -> None:
        self._engine = engine
        self._options = options
        self._proposes = verification.RULES[options.speculative.verification].proposes

    def begin(self, request: Request) -> None:
        """Prefill the prompt."""
        coupled = self._options.speculative.verification == "coupled"
        self._scorer = Scorer(self._options.decoding, request.seed, coupled)
        self._stream = Stream(request.seed, Purpose.PROPOSAL)
        self._session = self._engine.session(len(request.prompt_ids) + request.max_new_tokens)
        self._committed = list(request.prompt_ids)
        self._session.prefill(request.prompt_ids)

    def propose(self, draft_length: int) -> Proposal:
        """The draft model's next `draft_length` tokens behind all that is committed."""
        drafted: list[int] = []
        distributions: list[DraftDistribution] = []
        is_certain = self._options.speculative.gate is not None and draft_length > 0
        unread = self._committed[self._session.length :]
        if self._scorer.is_greedy and self._proposes != "sample" and not is_certain:
            return Proposal(tuple(self._session.draft_greedy(unread, draft_length)))
        while len(drafted) < draft_length:
            context = [*self._committed, *drafted]
            penalized = self._scorer.penalized(self._session.extend(unread)[-1:], context)
            if self._proposes == "sample":
                distribution = DraftDistribution.quantised(probabilities(penalized, self._options.decoding)[0])
                distributions.append(distribution)
                token = distribution.draw(self._stream.uniform())
            elif self._proposes == "argmax":
                token = int(penalized.argmax(-1))
            else:
                token = self._scorer.choose(penalized, len(context), self._stream)[0]
            is_certain = is_certain and self._is_certain(penalized, token)
            unread = [token]
            drafted.append(token)
        return Proposal(tuple(drafted), tuple(distributions), is_certain)

    def commit(self, tokens: Sequence[int], accepted: int) -> None:
        """Take over what the target committed; drop from the cache what it refused.

        Args:
            tokens: the committed ids, of which the first `accepted` are those last proposed.
        """
        self._session.truncate(min(self._session.length, len(self._committed) + accepted))
        self._committed.extend(tokens)

    def go_on(self) -> Iterator[int]:
        """Decode without a target, behind all that is committed; the text is no longer the cloud's."""
        self._session.truncate(min(self._session.length, len(self._committed) - 1))
        while True:
            tokens = self.propose(1).tokens
            self.commit(tokens, 1)
            yield tokens[0]

    def check(self) -> None:
        """Assert that the cache holds nothing behind the committed tokens."""
        held = self._session.cached_length
        if held != self._session.length or held > len(self._committed):
            raise AssertionError(f"the draft's cache holds {held} of {len(self._committed)} committed tokens")

    def _is_certain(self, penalized: torch.Tensor, token: int) -> bool:
        """Whether the profile's gate finds the draft sure of a token, from logits of shape (1, vocabulary)."""
        gate = self._options.speculative.gate
        assert gate is not None
        row = soft_probabilities(penalized, self._options.decoding)[0]
        if gate.measure == "entropy":
            return verification.entropy(row) <= gate.threshold
        if gate.measure == "margin":
            highest = row.topk(2).values
            return float(highest[0] - highest[1]) >= gate.threshold
        return float(row[token].log()) >= gate.threshold
