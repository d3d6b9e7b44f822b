"""From logits to token ids, for draft and target alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from specbench.config import Decoding


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

    Args:
        logits: shape (rows, vocabulary), penalties applied; `decoding.temperature` above zero.

    Returns:
        Rows that sum to one, in float32 or wider, shape (rows, vocabulary).
    """
    scores = logits.to(torch.promote_types(logits.dtype, torch.float32)) / decoding.temperature
    if 0 < decoding.top_k < scores.shape[-1]:
        cutoff = scores.topk(decoding.top_k, dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < cutoff, -torch.inf)
    if decoding.top_p < 1:
        ordered, order = scores.softmax(-1).sort(dim=-1, descending=True)
        # A token stays while the mass before it is below top_p, so the likeliest always does.
        beyond = ordered.cumsum(-1) - ordered >= decoding.top_p
        scores = scores.masked_fill(beyond.scatter(-1, order, beyond), -torch.inf)
    return scores.softmax(-1)


@dataclass
class Sampler:
    """Chooses tokens by the profile's rules; one per generation, seeded with it."""

    decoding: Decoding
    generator: torch.Generator | None = None

    @classmethod
    def seeded(cls, decoding: Decoding, seed: int, device: torch.device) -> Sampler:
        """A sampler whose draws depend on `seed` alone."""
        return cls(decoding, torch.Generator(device).manual_seed(seed))

    @torch.inference_mode()
    def choose(self, logits: torch.Tensor, context: Sequence[int], following: Sequence[int] = ()) -> list[int]:
        """One token id per row of `logits`.

        Args:
            logits: shape (rows, vocabulary).
            context: ids before row 0; `following[:i]` stand between them and row i.
        """
        logits = penalize_repetition(logits, context, following, self.decoding.repetition_penalty)
        if self.decoding.temperature == 0:
            return logits.argmax(-1).tolist()
        weights = probabilities(logits, self.decoding)
        return torch.multinomial(weights, 1, generator=self.generator).flatten().tolist()
