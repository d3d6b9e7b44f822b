"""The edge as a method sees it: a draft model that proposes, and takes back what was refused."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from specbench.engine.base import Engine
from specbench.engine.finite import demand_finite
from specbench.engine.session import KVSession
from specbench.profile import Options
from specbench.speculation import rules
from specbench.speculation.proposal import DraftDistribution, Proposal
from specbench.speculation.randomness import Purpose, Stream
from specbench.speculation.request import Request
from specbench.speculation.sampling import Scorer, probabilities, soft_probabilities

if TYPE_CHECKING:
    import torch


class ModelDrafter:
    """Proposes tokens behind all that is committed or proposed, and may draft on while they are being verified.

    The text holds the committed tokens and behind them what is drafted and not judged; between calls the cache
    holds a prefix of it, and what it lacks is read when the next token is drafted.
    """

    _spare = 0
    """Tokens that the cache must hold beside those that can be committed."""

    def __init__(self, engine: Engine, options: Options) -> None:
        self._engine = engine
        self._options = options
        self._held: KVSession | None = None
        self._proposes = rules.RULES[options.speculative.verification].proposes

    def begin(self, request: Request) -> None:
        """Prefill the prompt, as this model reads it."""
        request = request.as_read_by(self._engine.role)
        self._scorer = Scorer.of(self._options, request)
        self._stop_ids = request.stop_ids
        self._stream = Stream(request.seed, Purpose.PROPOSAL)
        self._held = self._opened(len(request.prompt_ids) + request.max_new_tokens + self._spare)
        self._text = list(request.prompt_ids)
        self._committed = len(self._text)
        self._proposed: deque[tuple[int, int]] = deque()
        """Of proposals that are not judged, the oldest first: tokens, and numbers drawn up to the end."""
        self._unsure: list[int] = []  # positions of drafted tokens, behind each of which a proposal ends
        if request.media:
            self._session.show(request.media)
        self._session.prefill(request.prompt_ids)

    def _opened(self, capacity: int) -> KVSession:
        """An empty cache."""
        return self._engine.session(capacity)

    @property
    def drawn(self) -> int:
        """Random numbers used for this text so far."""
        return self._stream.drawn

    def skip(self, count: int) -> None:
        """Go on with the random numbers as if `count` had been drawn."""
        self._stream.skip(count)

    def propose(self, draft_length: int) -> Proposal:
        """At most `draft_length` tokens, those that were drafted ahead first.

        They follow the proposals that are not judged yet, and without any all that is committed. With
        `speculative.confidence_stop`, the first token that the draft is unsure of is the last one. It is
        verified too: whether a drawn token is proposed must not depend on which token it is (`rejection`).
        """
        start = self._committed + sum(length for length, _ in self._proposed)
        self._session.settle(self._committed - 1)  # whose logits may be asked for again
        distributions: list[DraftDistribution] = []
        gated = self._options.speculative.gate is not None
        # A gate asks the draft about each token, and it was not asked about those that are here already.
        is_certain = gated and draft_length > 0 and not self.uncommitted
        if self._is_plain and not gated and self._stop is None:
            missing = start + draft_length - len(self._text)
            self._text += self._session.draft_greedy(self._unread, max(missing, 0))
        while len(self._text) < self._end(start, draft_length):
            if (token := self._scorer.forced(self._text)) is not None:
                self._append_forced(token)
                if self._proposes == "sample":
                    distributions.append(DraftDistribution.certain(token))
                continue
            penalized = self._penalized()
            if self._proposes == "sample":
                distribution = DraftDistribution.quantised(probabilities(penalized, self._options.decoding)[0])
                distributions.append(distribution)
                token = distribution.draw(self._stream.uniform())
            elif self._proposes == "argmax":
                token = int(penalized.argmax(-1))
            else:
                token = self._choice(penalized)
            is_certain = is_certain and self._is_certain(penalized, token)
            self._take(token, penalized)
        end = self._end(start, draft_length)
        self._proposed.append((end - start, self._stream.drawn))
        return Proposal(tuple(self._text[start:end]), tuple(distributions), is_certain)

    def append(self, tokens: Sequence[int]) -> None:
        """Take tokens of another's proposal behind all that is drafted; `propose` goes on behind them.

        Args:
            tokens: in the target's ids. They count as drafted, and `propose` returns them first.

        Raises:
            ValueError: the rule asks what each token was drawn from, which nobody knows of these.
        """
        if self._proposes == "sample" and tokens:
            raise ValueError(
                f"{self._options.speculative.verification} judges tokens that this model drew alone"
            )
        self._text += tokens

    def log_probabilities(self) -> torch.Tensor:
        """Natural logarithms of the probabilities of the next token, behind all that is drafted.

        Returns:
            float64 of shape (vocabulary,), by the target's ids, at temperature 1 where decoding is greedy, with
            the profile's penalty. One pass over what the cache lacks, and no pass of the target.
        """
        return soft_probabilities(self._penalized(), self._options.decoding)[0].log()

    def top_k(self, count: int) -> list[tuple[int, float]]:
        """The likeliest next tokens, the likeliest first: id and log-probability, as of `log_probabilities`."""
        highest = self.log_probabilities().topk(count)
        return list(zip(highest.indices.tolist(), highest.values.tolist(), strict=True))

    def draft_ahead(self) -> int | None:
        """Draft and return one more token, as if all that was drafted so far were to be committed.

        The first one behind a proposal stands where the target puts a token of its own, and guesses it; for the
        rules by which the draft makes its own choice, `greedy` and `coupled`.
        """
        if self._is_plain and self._stop is None:
            self._text += self._session.draft_greedy(self._unread, 1)
        elif (token := self._scorer.forced(self._text)) is not None:
            self._append_forced(token)
        else:
            penalized = self._penalized()
            self._take(self._choice(penalized), penalized)
        return self._text[-1]

    def commit(self, tokens: Sequence[int], accepted: int) -> int:
        """Take over what the target committed; drop from text and cache what it made void.

        What was drafted ahead stands when all that was proposed was accepted and the target's own token, if it
        put one there, is the one that was guessed. The random numbers of proposals that are dropped are drawn
        again: nobody judged them, and so the text does not depend on how far ahead the draft had come.

        Args:
            tokens: the committed ids, of which the first `accepted` are those of the oldest proposal.

        Returns:
            How many tokens were drafted ahead and are dropped.
        """
        drafted = self._text[self._committed :]
        proposed, drawn = self._proposed.popleft() if self._proposed else (0, self._stream.drawn)
        if accepted == proposed and drafted[: len(tokens)] == list(tokens):
            self._committed += len(tokens)
            return 0
        kept = self._committed + accepted
        self._session.truncate(min(self._session.length, kept))
        self._text[kept:] = tokens[accepted:]
        self._unsure.clear()
        self._committed = len(self._text)
        if self._proposed:
            self._proposed.clear()
            self._stream.rewind(drawn)
        return len(drafted) - proposed

    def overtake(self, token: int) -> bool:
        """Take over a token that the target said by itself.

        Returns:
            Whether the oldest proposal begins with it. What is behind it then stands, and else nothing does.
        """
        if not self.uncommitted or self._text[self._committed] != token:
            self.commit((token,), 0)
            return False
        length, drawn = self._proposed.popleft()
        if length > 1:
            self._proposed.appendleft((length - 1, drawn))
        self._committed += 1
        return True

    @property
    def uncommitted(self) -> int:
        """Tokens that are drafted and not judged: those proposed, and those ahead of them."""
        return len(self._text) - self._committed

    def decode_alone(self) -> Iterator[int]:
        """Decode without a target, behind all that is committed; the text is not the cloud's any more."""
        del self._text[self._committed :]
        self._proposed.clear()
        self._unsure.clear()
        self._session.truncate(min(self._session.length, self._committed - 1))
        while True:
            token = self.propose(1).tokens[0]
            self.commit((token,), 1)
            yield token

    @property
    def _stop(self) -> float | None:
        return self._options.speculative.confidence_stop

    def _append_forced(self, token: int) -> None:
        """Draft the one token that the request's grammar allows, without a step of the model.

        Behind a stop token nothing follows, so a proposal ends there.
        """
        if token in self._stop_ids:
            self._unsure.append(len(self._text))
        self._text.append(token)

    def _take(self, token: int, penalized: torch.Tensor) -> None:
        """Append a drafted token, and remember whether the draft is unsure of it."""
        if self._stop is not None:
            share = soft_probabilities(penalized, self._options.decoding)[0, token]
            if float(share) < self._stop:
                self._unsure.append(len(self._text))
        self._text.append(token)

    def _end(self, start: int, draft_length: int) -> int:
        """Where a proposal of at most so many tokens ends in the text."""
        unsure = [position + 1 for position in self._unsure if position >= start]
        return min([start + draft_length, *unsure])

    @property
    def _session(self) -> KVSession:
        assert self._held is not None, "no text is under way"
        return self._held

    def release(self) -> None:
        """Free the cache; the text has ended, or is given up."""
        self._held = None

    def check(self) -> None:
        """Assert that the cache holds nothing behind the text and what was drafted ahead of it."""
        held = self._session.cached_length
        if held != self._session.length or held > len(self._text):
            raise AssertionError(f"the draft's cache holds {held} of {len(self._text)} tokens")

    @property
    def _is_plain(self) -> bool:
        """Whether a drafted token is the argmax of the draft's logits as they are."""
        return self._scorer.is_greedy and self._proposes != "sample"

    @property
    def _unread(self) -> list[int]:
        """Tokens that the cache lacks; the last one where it lacks none, for its logits are gone."""
        if self._session.length == len(self._text):
            self._session.truncate(len(self._text) - 1)
        return self._text[self._session.length :]

    def _penalized(self) -> torch.Tensor:
        """Logits of the next token, shape (1, vocabulary)."""
        logits = self._session.extend(self._unread)[-1:]
        demand_finite(logits, self._engine.role)
        return self._scorer.penalized(logits, self._text)

    def _choice(self, penalized: torch.Tensor) -> int:
        return self._scorer.choose(penalized, len(self._text), self._stream)[0]

    def _is_certain(self, penalized: torch.Tensor, token: int) -> bool:
        """Whether the profile's gate finds the draft sure of a token, from logits of shape (1, vocabulary)."""
        gate = self._options.speculative.gate
        assert gate is not None
        row = soft_probabilities(penalized, self._options.decoding)[0]
        if gate.measure == "entropy":
            return rules.entropy(row) <= gate.threshold
        if gate.measure == "margin":
            highest = row.topk(2).values
            return float(highest[0] - highest[1]) >= gate.threshold
        return float(row[token].log()) >= gate.threshold
