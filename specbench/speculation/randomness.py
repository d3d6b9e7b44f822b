"""Random numbers that are the same on every device, in any order and in any process.

They come from Philox (Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3"), a counter-based
generator: number n of a key is a hash of the two. torch's generators differ between CPU and CUDA.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a stream is drawn for; streams of different purpose are independent.

    A draft's proposals, the coins that judge them and the target's own tokens must never share one: the coin
    would know the proposal, and rejection sampling would no longer be lossless.
    """

    PROPOSAL = 1
    COIN = 2
    OWN_TOKEN = 3
    NOISE = 4


class Stream:
    """Uniform numbers in [0, 1), decided by a generation's seed and the purpose alone."""

    def __init__(self, seed: int, purpose: Purpose) -> None:
        self._key = _key(seed, purpose)
        self.rewind(0)

    def skip(self, count: int) -> None:
        """Go on as if `count` numbers more had been drawn."""
        self._bits.random_raw(count, output=False)
        self.drawn += count

    def rewind(self, drawn: int) -> None:
        """Go on as if only so many numbers had been drawn."""
        self._bits = np.random.Philox(key=self._key)
        self.drawn = 0
        self.skip(drawn)

    def uniform(self) -> float:
        """The next number, a multiple of 2⁻⁵³."""
        self.drawn += 1
        return (int(self._bits.random_raw()) >> 11) * 2.0**-53


def gumbel_noise(seed: int, position: int, size: int) -> np.ndarray:
    """Standard Gumbel noise of every token at one place of a text: float64 [size].

    The argmax of log p + noise is a draw from p (Gumbel-max). Draft and target that add the same noise draw
    the same token wherever they agree closely enough (Daliri et al. 2024, "Coupling without Communication").

    Args:
        position: absolute, counted from the prompt's first token.
        size: tokens of the target's vocabulary; noise i belongs to its token i.
    """
    bits = np.random.Philox(key=_key(seed, Purpose.NOISE), counter=[0, position, 0, 0])
    uniform = ((bits.random_raw(size) >> np.uint64(12)) + 0.5) * 2.0**-52  # never 0 nor 1
    return -np.log(-np.log(uniform))


def _key(seed: int, purpose: Purpose) -> np.ndarray:
    return np.array([seed, purpose], np.uint64)
