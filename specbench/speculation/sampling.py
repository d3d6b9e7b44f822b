"""From logits to token ids, for draft and target alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from specbench.profile import Decoding
from specbench.speculation.randomness import Stream, gumbel_noise


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
        seen = torch.tensor(sorted({*context, *following[:row]}), device=logits.device)
        values = logits[row, seen]
        penalized[row, seen] = torch.where(values > 0, values / penalty, values * penalty)
    return penalized


def probabilities(logits: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """The distribution that is sampled from: temperature, then top-k, then top-p (Holtzman et al. 2020).

    At temperature 0 all of it lies on the highest logit.

    Args:
        logits: shape (rows, vocabulary), penalties applied.

    Returns:
        Rows that sum to one, in float64, shape (rows, vocabulary).
    """
    scores = logits.double()
    if decoding.temperature == 0:
        return torch.zeros_like(scores).scatter_(-1, scores.argmax(-1, keepdim=True), 1.0)
    scores = scores / decoding.temperature
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
        seed: of the generation.
        coupled: a token is the argmax of log p plus the noise of its place, which draft and target share.
    """

    decoding: Decoding
    seed: int
    coupled: bool

    @property
    def is_greedy(self) -> bool:
        """Whether a token is the argmax of the logits as they are."""
        return self.decoding.temperature == 0 and self.decoding.repetition_penalty == 1

    def penalized(
        self, logits: torch.Tensor, context: Sequence[int], following: Sequence[int] = ()
    ) -> torch.Tensor:
        """Logits with the repetition penalty; arguments as for `penalize_repetition`."""
        return penalize_repetition(logits, context, following, self.decoding.repetition_penalty)

    def compared(self, penalized: torch.Tensor, position: int | Sequence[int]) -> torch.Tensor:
        """The scores whose highest is the token, where that is decided without a draw: [rows, vocabulary].

        Penalised logits at temperature 0; else, when coupled, log p + Gumbel noise in float64.

        Args:
            position: absolute position of the token that row 0 decides, the others following it; or of the
                token that each row decides.
        """
        if self.decoding.temperature == 0:
            return penalized
        if not self.coupled:
            raise ValueError("tokens that are drawn from a stream are not the highest of any scores")
        scores = probabilities(penalized, self.decoding).log()
        places = range(position, position + len(scores)) if isinstance(position, int) else position
        noise = {place: torch.from_numpy(gumbel_noise(self.seed, place, scores.shape[1])) for place in places}
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
