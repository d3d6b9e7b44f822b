"""The loop of `speculative_adaptive` where it always drafts: with tiny models, drafting never pays."""

import random

from specbench.api import SpeculativeDecoder
from specbench.speculation.filled_sizes import Size
from specbench.speculation.lookup_drafter import LookupDrafter
from specbench.speculation.switching import SwitchingLoop


class AlwaysDrafting(SwitchingLoop):
    """Drafts by a coin's sizes, with `trees` half of them trees; for a few commits at a time it listens."""

    def __init__(self, drafter, target, seed=0, listens=0.1, trees=False):
        super().__init__(drafter, target, trees)
        self._coin, self._share = random.Random(seed), listens

    def _begin(self, request):
        super()._begin(request)
        self._reconsider()

    def _reconsider(self):
        coin = self._coin
        self._drafts = coin.random() >= self._share
        length, goes_on = coin.choice([1, 2, 4, 7]), coin.random() < 0.7
        self._sizes.size = Size(coin.choice([1, 2, 4, 8]), length, goes_on)
        if self._trees and coin.random() < 0.5:
            self._sizes.size = Size(1, length, goes_on, nodes=coin.choice([2, 9, 30]))


def always_drafting(edge, target, options, seed=0, listens=0.1, trees=False):
    """A decoder with that loop."""
    drafter = LookupDrafter(edge.drafter(options, trees), None)
    return SpeculativeDecoder(drafter, target, AlwaysDrafting(drafter, target, seed, listens, trees))
