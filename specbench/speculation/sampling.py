"""From logits to token ids, for draft and target alike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from specbench.profile import Decoding, Options
from specbench.speculation.randomness import Stream, gumbel_noise

if TYPE_CHECKING:
    from specbench.speculation.grammar import Constraint
    from specbench.speculation.request import Request


CHOOSING = ("temperature", "top_p", "top_k", "min_p", "ignore_eos", "stop")
"""Settings of `Decoding` that leave the logits as they are."""


def penalize_repetition(
    logits: torch.Tensor, context: Sequence[int], following: Sequence[int], penalty: float
) -> torch.Tensor:
    """Make tokens that already occurred less likely (Keskar et al. 2019, CTRL, section 4.1).

    Args:
        logits: shape (rows, vocabulary); row i is conditioned on `context` and the first i of `following`.
        penalty: positive logits are divided by it, negative ones multiplied; 1 changes nothing.
    """
    if penalty == 1:
        return logits
    penalized = logits.clone()
    for row in range(logits.shape[0]):
        seen = torch.tensor(sorted({*context, *following[:row]}), dtype=torch.long, device=logits.device)
        values = logits[row, seen]
        penalized[row, seen] = torch.where(values > 0, values / penalty, values * penalty)
    return penalized


def penalize_output(
    logits: torch.Tensor, answer: Sequence[int], following: Sequence[int], frequency: float, presence: float
) -> torch.Tensor:
    """Subtract from the logits of tokens that the answer has: for each time, and once (the API of OpenAI).

    Args:
        logits: shape (rows, vocabulary); row i is conditioned on the prompt, `answer` and the first i of
            `following`.
    """
    if frequency == presence == 0:
        return logits
    penalized = logits.clone()
    for row in range(logits.shape[0]):
        if counts := Counter([*answer, *following[:row]]):
            seen = torch.tensor(list(counts), device=logits.device)
            times = torch.tensor(list(counts.values()), device=logits.device, dtype=logits.dtype)
            penalized[row, seen] -= frequency * times
            penalized[row, seen] -= presence
    return penalized


def probabilities(logits: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """The distribution that is sampled from: temperature, then min-p, top-k and top-p, in vLLM's order.

    At temperature 0 all of it lies on the highest logit. Sources: Nguyen et al. 2024 (min-p), Holtzman et al.
    2020 (top-p).

    Args:
        logits: shape (rows, vocabulary), penalties applied.

    Returns:
        Rows that sum to one, in float64, shape (rows, vocabulary).
    """
    scores = logits.double()
    if decoding.temperature == 0:
        return torch.zeros_like(scores).scatter_(-1, scores.argmax(-1, keepdim=True), 1.0)
    scores = scores / decoding.temperature
    if decoding.min_p > 0:
        cutoff = scores.amax(-1, keepdim=True) + math.log(decoding.min_p)
        scores = scores.masked_fill(scores < cutoff, -torch.inf)
    if 0 < decoding.top_k < scores.shape[-1]:
        cutoff = scores.topk(decoding.top_k, dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < cutoff, -torch.inf)
    if decoding.top_p < 1:
        ordered, order = scores.softmax(-1).sort(dim=-1, descending=True)
        # A token stays while the mass before it is below top_p, so the likeliest always does.
        beyond = ordered.cumsum(-1) - ordered >= decoding.top_p
        scores = scores.masked_fill(beyond.scatter(-1, order, beyond), -torch.inf)
    return scores.softmax(-1)


def soft_probabilities(logits: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """How sure a model is: `probabilities`, at temperature 1 where the decoding is greedy."""
    return probabilities(logits, decoding if decoding.temperature else Decoding(temperature=1.0))


def draw(weights: torch.Tensor, uniform: float) -> int:
    """The token at which the cumulated weights first exceed `uniform` times their sum.

    Args:
        weights: shape (vocabulary,), not negative and not all zero; they need not sum to one.
        uniform: in [0, 1).
    """
    cumulated = weights.double().cumsum(0)
    total = float(cumulated[-1])
    token = int(torch.searchsorted(cumulated, uniform * total, right=True))
    if token >= len(weights):  # the product was rounded up to the whole sum
        token = int(torch.searchsorted(cumulated, total))
    return token


@dataclass(frozen=True)
class Scorer:
    """What a model makes of its logits, by the profile's rules: one per generation.

    Args:
        request: that is answered; penalties of the answer begin behind its prompt.
        coupled: a token is the argmax of log p plus the noise of its place, which draft and target share.
    """

    decoding: Decoding
    request: Request
    coupled: bool

    @classmethod
    def of(cls, options: Options, request: Request) -> Scorer:
        """By what a method is told."""
        return cls(options.decoding, request, options.speculative.verification == "coupled")

    @cached_property
    def changes_logits(self) -> bool:
        """Whether anything is done to the logits before a token is chosen."""
        asked = self.request
        return bool(self.decoding.beyond(*CHOOSING)) or asked.grammar is not None or asked.media is not None

    @cached_property
    def _constraint(self) -> Constraint | None:
        return self.request.grammar.constraint() if self.request.grammar else None

    def forced(self, context: Sequence[int]) -> int | None:
        """The one token that the request's grammar allows next; `None` where there is a choice.

        Args:
            context: the prompt and what follows it.
        """
        return self._constraint.forced(context[len(self.request.prompt_ids) :]) if self._constraint else None

    @property
    def is_greedy(self) -> bool:
        """Whether a token is the argmax of the logits as they are."""
        return self.decoding.temperature == 0 and not self.changes_logits

    def penalized(
        self, logits: torch.Tensor, context: Sequence[int], following: Sequence[int] = ()
    ) -> torch.Tensor:
        """Logits with the profile's biases and penalties, in vLLM's order.

        Stop tokens are out of reach before `min_new_tokens`. Then come biases, and penalties for repetition,
        frequency and presence. What the request's grammar forbids is out of reach, whatever they say, and so
        is what stands for images and sounds in its prompt: a model would look for one in its own answer.

        Args:
            logits: shape (rows, vocabulary); row i is conditioned on `context` and the first i of `following`.
            context: the prompt and what follows it.
        """
        if not self.changes_logits:
            return logits
        decoding, answer = self.decoding, context[len(self.request.prompt_ids) :]
        short = min(decoding.min_new_tokens - len(answer), len(logits))
        if short > 0 and self.request.stop_ids:
            logits = logits.clone()
            logits[:short, self._ids(self.request.stop_ids, logits)] = -torch.inf
        if decoding.logit_bias:
            logits = logits.clone()
            ids = self._ids(decoding.logit_bias, logits)
            bias = [decoding.logit_bias[token] for token in ids]
            logits[:, ids] += torch.tensor(bias, dtype=logits.dtype, device=logits.device)
        logits = penalize_repetition(logits, context, following, decoding.repetition_penalty)
        logits = penalize_output(
            logits, answer, following, decoding.frequency_penalty, decoding.presence_penalty
        )
        if self.request.media:
            logits = logits.clone()
            logits[:, self._ids(self.request.media.placeholder_ids, logits)] = -torch.inf
        return self._constraint.applied(logits, answer, following) if self._constraint else logits

    @staticmethod
    def _ids(token_ids: Iterable[int], logits: torch.Tensor) -> list[int]:
        """Those that have a logit: a stop token may be an id of padding."""
        return [token for token in token_ids if token < logits.shape[1]]

    def compared(self, penalized: torch.Tensor, position: int | Sequence[int]) -> torch.Tensor:
        """The scores whose highest is the token, where that is decided without a draw: [rows, vocabulary].

        Penalised logits at temperature 0; else, when coupled, log p + Gumbel noise in float64.

        Args:
            position: absolute position of the token that row 0 decides, the others following it; or of the
                token that each row decides. What is left out of the request's prompt is not counted.
        """
        if self.decoding.temperature == 0:
            return penalized
        if not self.coupled:
            raise ValueError("tokens that are drawn from a stream are not the highest of any scores")
        scores = probabilities(penalized, self.decoding).log()
        asked = range(position, position + len(scores)) if isinstance(position, int) else position
        places = [place + self.request.left_out for place in asked]
        seed, size = self.request.seed, scores.shape[1]
        noise = {place: torch.from_numpy(gumbel_noise(seed, place, size)) for place in places}
        return scores + torch.stack([noise[place] for place in places]).to(scores.device)

    def choose(self, penalized: torch.Tensor, position: int | Sequence[int], stream: Stream) -> list[int]:
        """One token id per row, by argmax where that decides it and by a draw from `stream` where not.

        Args:
            penalized: shape (rows, vocabulary).
            position: as for `compared`.
        """
        if self.decoding.temperature == 0 or self.coupled:
            return self.compared(penalized, position).argmax(-1).tolist()
        return [draw(row, stream.uniform()) for row in probabilities(penalized, self.decoding)]
