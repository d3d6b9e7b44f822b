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

    @classmethod
    def certain(cls, token: int) -> DraftDistribution:
        """All of it on one token."""
        import numpy as np

        return cls(np.array([token], np.uint32), np.array([WEIGHT_MAX], np.uint16))

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

    def judged(self, commit: Round, accepted: int) -> Round:
        """What a verdict on it committed, `accepted` tokens of it among them, with what it was about."""
        depth = self.depth if self.parents else None
        commit = replace(commit, drafted=len(self), accepted=accepted, depth=depth)
        return replace(commit, refused=self.refused(commit))

    def refused(self, commit: Round) -> tuple[int, ...]:
        """What a commit refused of it: all behind the accepted tokens, of a tree those that could follow them.

        Nothing where the text ended at an accepted token: then what follows was not judged.
        """
        accepted = commit.accepted or 0
        if accepted >= len(commit.tokens):
            return ()
        if self.parents is None:
            return tuple(self.tokens[accepted:])
        places = list(zip(self.parents, self.tokens, strict=True))
        nodes = {place: node for node, place in enumerate(places)}
        at: int | None = -1
        for token in commit.tokens[:accepted]:
            at = nodes.get((at, token)) if at is not None else None
        return tuple(token for parent, token in places if parent == at)

    def stands(self, commit: Round) -> bool:
        """Whether a proposal that follows this one is still to be verified, by what this one committed."""
        is_whole = len(commit.tokens) == commit.accepted == len(self)
        return self.continues and is_whole and commit.finish_reason is None

    def behind(self, said: Sequence[int]) -> Proposal | None:
        """What is left of it where the target has said these tokens by itself.

        Returns:
            An empty proposal where the target has come as far, and `None` where it has said something else.
        """
        if self.parents is None:
            count = min(len(said), len(self))
            if tuple(self.tokens[:count]) != tuple(said[:count]):
                return None
            return replace(self, tokens=self.tokens[count:], distributions=self.distributions[count:])
        node = -1
        for token in said:
            children = [index for index, parent in enumerate(self.parents) if parent == node]
            if not children:
                return replace(self, tokens=(), distributions=(), parents=None)
            node = next((index for index in children if self.tokens[index] == token), -1)
            if node < 0:
                return None
        return self._below(self.parents, node) if node >= 0 else self

    def _below(self, parents: Sequence[int], node: int) -> Proposal:
        """The tree behind one of its nodes."""
        places = {node: -1}
        for index, parent in enumerate(parents):
            if parent in places:
                places[index] = len(places) - 1
        kept = list(places)[1:]
        givers = list(dict.fromkeys(parents)) if self.distributions else []
        left = dict.fromkeys(parents[index] for index in kept) if givers else {}
        return replace(
            self,
            tokens=tuple(self.tokens[index] for index in kept),
            distributions=tuple(self.distributions[givers.index(parent)] for parent in left),
            parents=tuple(places[parents[index]] for index in kept) or None,
        )

    @property
    def first_choices(self) -> tuple[int, ...]:
        """Of a tree, the path of those tokens that stand before their siblings; all of a chain."""
        if self.parents is None:
            return tuple(self.tokens)
        node, found = -1, []
        for index, parent in enumerate(self.parents):
            if parent == node:
                found.append(self.tokens[index])
                node = index
        return tuple(found)

    def __len__(self) -> int:
        return len(self.tokens)


NO_DRAFT = Proposal()
