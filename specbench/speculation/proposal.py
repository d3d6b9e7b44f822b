"""What the edge sends: drafted tokens and, where a rule needs it, the distributions they were drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from specbench.profile.decoding import LONGEST_DRAFT

if TYPE_CHECKING:
    import numpy as np
    import torch

    from specbench.results.records import Round

MOST_NODES = LONGEST_DRAFT - 1  # of a tree: its pass reads the last committed token too
WEIGHT_MAX = 65_535
KEPT_TOKENS = 128
KEPT_SHARE = 0.999  # tokens behind these are left out: they cost bytes, and hardly ever are drawn


@dataclass(frozen=True)
class DraftDistribution:
    """A distribution over few tokens with 16-bit weights: probability i is weights[i] / sum(weights).

    It is what the draft is sampled from, not an approximation of it, and so rejection sampling stays lossless
    however coarse it is.

    Args:
        token_ids: the target's ids, ascending, uint32 [n].
        weights: uint16 [n], none of them zero.
    """

    token_ids: np.ndarray
    weights: np.ndarray

    @classmethod
    def quantised(cls, probabilities: torch.Tensor) -> DraftDistribution:
        """Round a distribution of shape (vocabulary,) to 16 bits, the likeliest token getting all of them.

        Only the likeliest tokens stay, at most `KEPT_TOKENS` and those that make up `KEPT_SHARE`: what is sent
        is small, and is what is sampled from (Quantize-Sample-and-Verify, 2025; PicoSpec, 2026).
        """
        import numpy as np

        highest = probabilities.topk(min(KEPT_TOKENS, len(probabilities)))
        before = highest.values.cumsum(0) - highest.values
        scaled = (highest.values * (WEIGHT_MAX / highest.values[0])).round()
        stays = (before < KEPT_SHARE) & (scaled > 0)
        ids, order = highest.indices[stays].sort()
        return cls(ids.cpu().numpy().astype(np.uint32), scaled[stays][order].cpu().numpy().astype(np.uint16))

    def packed(self) -> bytes:
        """What crosses the wire: the bytes of an id (2 or 4), all ids, all weights, little-endian."""
        width = 2 if self.token_ids[-1] <= WEIGHT_MAX else 4
        ids = self.token_ids.astype(f"<u{width}").tobytes()
        return bytes([width]) + ids + self.weights.astype("<u2").tobytes()

    @classmethod
    def unpacked(cls, data: bytes) -> DraftDistribution:
        """The distribution that `packed` wrote.

        Raises:
            ValueError: it is none: of an odd size, not ascending, or with a weight of zero.
        """
        import numpy as np

        width = data[0] if data else 0
        count, rest = divmod(len(data) - 1, width + 2)
        if width not in (2, 4) or rest or not count:
            raise ValueError("a draft distribution is cut off")
        ids = np.frombuffer(data, f"<u{width}", count, 1).astype(np.uint32)
        weights = np.frombuffer(data, "<u2", count, 1 + width * count)
        if (ids[1:] <= ids[:-1]).any() or not weights.all():
            raise ValueError("a draft distribution is not in order")
        return cls(ids, weights)

    @cached_property
    def _cumulated(self) -> np.ndarray:
        return self.weights.cumsum(dtype="int64")

    def draw(self, uniform: float) -> int:
        """The token that a number in [0, 1) stands for."""
        index = self._cumulated.searchsorted(uniform * self._cumulated[-1], side="right")
        return int(self.token_ids[index])

    def without(self, token: int) -> DraftDistribution:
        """What the next sibling of a token that was drawn from this is drawn from."""
        others = self.token_ids != token
        return DraftDistribution(self.token_ids[others], self.weights[others])

    def probability(self, token: int) -> float:
        """Of one token; zero for those that are not listed."""
        index = self.token_ids.searchsorted(token)
        listed = index < len(self.token_ids) and self.token_ids[index] == token
        return float(self.weights[index]) / float(self._cumulated[-1]) if listed else 0.0

    def dense(self, size: int, device: torch.device) -> torch.Tensor:
        """All probabilities, float64 [size]."""
        import torch

        ids = torch.from_numpy(self.token_ids.astype("int64")).to(device)
        weights = torch.from_numpy(self.weights.astype("float64")).to(device)
        return weights.new_zeros(size).index_copy_(0, ids, weights / weights.sum())


@dataclass(frozen=True)
class Proposal:
    """Drafted tokens, in the target's ids.

    Args:
        distributions: what each token was drawn from, for the rules that ask for it; else empty. A tree has one
            for each parent, in the order in which `parents` names them first: siblings are drawn from it
            without replacement, in the order in which they stand in `tokens`.
        parents: of a tree, the index of each token's parent in `tokens`, lower than its own, and -1 where it
            follows the committed tokens; siblings differ. `None` for a chain.
        is_certain: the profile's gate found the draft sure of every token.
        continues: another proposal follows behind this one before its verdict is known. Accepted whole, it then
            commits no token of the target's own: the first token of the next one stands in that place. No tree
            does.
        goes_on: the target decodes on by itself behind a refusal, and where nothing follows, until a proposal
            arrives that has come further. What it has said by then must be how that proposal begins, and the
            rest is verified.

    Raises:
        ValueError: the parents make no tree, or another proposal follows one.
    """

    tokens: Sequence[int] = ()
    distributions: tuple[DraftDistribution, ...] = ()
    is_certain: bool = False
    parents: tuple[int, ...] | None = None
    continues: bool = False
    goes_on: bool = False

    def __post_init__(self) -> None:
        """Refuse parents that make no tree."""
        if self.parents is None:
            return
        if len(self.parents) != len(self.tokens):
            raise ValueError(f"a tree of {len(self.tokens)} tokens has {len(self.parents)} parents")
        if not all(-1 <= parent < index for index, parent in enumerate(self.parents)):
            raise ValueError("a tree has a token whose parent does not stand before it")
        if len(set(zip(self.parents, self.tokens, strict=True))) < len(self.tokens):
            raise ValueError("a tree has two equal siblings")
        if self.continues:
            raise ValueError("no proposal can follow a tree before its verdict")

    @cached_property
    def depths(self) -> Sequence[int]:
        """Of each token, how many tokens its path has, itself included."""
        if self.parents is None:
            return range(1, len(self.tokens) + 1)
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent < 0 else depths[parent] + 1)
        return depths

    @property
    def depth(self) -> int:
        """Tokens of the longest path."""
        return max(self.depths, default=0)

    def path(self, index: int) -> list[int]:
        """Indices of a token's ancestors, the first one first, and its own; none for -1."""
        if self.parents is None:
            return list(range(index + 1))
        path: list[int] = []
        while index >= 0:
            path.append(index)
            index = self.parents[index]
        return path[::-1]

    def stands(self, commit: Round) -> bool:
        """Whether a proposal that follows this one is still to be verified, by what this one committed."""
        is_whole = len(commit.tokens) == commit.accepted == len(self)
        return self.continues and is_whole and commit.finish_reason is None

    def behind(self, count: int) -> Proposal:
        """What is left of a chain whose first `count` tokens the target has said by itself."""
        return replace(self, tokens=self.tokens[count:], distributions=self.distributions[count:])

    def __len__(self) -> int:
        return len(self.tokens)


NO_DRAFT = Proposal()
