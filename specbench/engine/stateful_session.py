"""A text whose state cannot be cut: it goes back to a copy, and reads again what stands behind that.

Recurrent and convolutional layers keep one state of a whole text, and transformers gives it behind a pass
alone. So a copy is kept before each pass that reads what may be refused. Behind a refusal the last copy before
it is restored, and the tokens between the two are read again together with those that come next.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from specbench.engine.eager_session import EagerPasses, EagerSession
from specbench.engine.rereading import Restored, passes
from specbench.models.caches import State, growing_cache

MOST_KEPT = 16
"""Copies of a text's state: a draft of so many tokens, which are read one by one, has one at each."""


class StatefulSession(EagerSession):
    """One sequence in a cache that holds a state; tokens that were read are known, to be read again."""

    restored: Restored

    def __init__(self, engine: EagerPasses) -> None:
        super().__init__(engine)
        self.restored = Restored()
        self._text: list[int] = []
        self._at = 0
        """Tokens that the cache has read; behind a refusal more or fewer than those of the text."""
        self._kept: list[tuple[int, State]] = []
        self._settled = 0

    def settle(self, length: int) -> None:
        """As of every session: older copies than the last one before it are dropped."""
        self._settled = length
        while len(self._kept) > 1 and self._kept[1][0] <= length:
            del self._kept[0]

    def extend(self, token_ids: Sequence[int], parents: Sequence[int] | None = None) -> torch.Tensor:
        """As of every session.

        Raises:
            ValueError: a tree was given, and a state stands at one place of a text.
        """
        if parents is not None:
            raise ValueError(self._engine.state)
        return super().extend(token_ids)

    @property
    def cached_length(self) -> int:
        """The length that the cache reports, and what it is still to read again."""
        reported = self._reported_length
        return self._length if reported is None else reported + self._length - self._at

    @property
    def fixed_layer(self) -> str | None:
        """None: whatever cannot be cut is restored."""
        return None

    def _forget(self, count: int) -> None:
        if count:
            del self._text[-count:]
        while self._kept and self._kept[-1][0] > len(self._text):
            self._kept.pop()

    def _append(self, token_ids: Sequence[int], last: int) -> torch.Tensor:
        self._engine.demand_apart(self)
        if self._at > len(self._text):
            self._go_back()
        again, wanted = len(self._text) - self._at, last or len(token_ids)
        self.restored.replayed_tokens += again
        self._text += token_ids
        found: list[torch.Tensor] = []
        states: list[torch.Tensor] = []
        for width in self._widths(again, len(token_ids)):
            if self._at and self._at + width > self._settled:
                self._keep()
            tokens = self._text[self._at : self._at + width]
            found.append(self._pass(tokens, self._at, min(width, wanted)))
            if self.hidden_states is not None:
                states.append(self.hidden_states)
            self._at += width
        if self.hidden_layers:
            self.hidden_states = torch.cat(states)[-len(token_ids) :]
        self.grown(len(token_ids))
        return torch.cat(found)[-wanted:]

    def _widths(self, again: int, count: int) -> Sequence[int]:
        if self._engine.reads_singly:
            return [1] * (again + count) if self._at else [again + count]
        return passes(again, count)

    def _keep(self) -> None:
        if self._kept and self._kept[-1][0] == self._at:
            return
        state = State(self.cache, self._engine.state_holder)
        self._kept.append((self._at, state))
        self.restored.snapshot_bytes += state.size
        if len(self._kept) > MOST_KEPT:
            del self._kept[-2::-2]

    def _go_back(self) -> None:
        """To the last copy, which lies within the text; without one to its begin."""
        if self._kept:
            place, state = self._kept[-1]
            state.restore(self._at - place)
            self._at = place
            self.restored.snapshot_bytes += state.size
        else:
            self._at, self.cache = 0, growing_cache(self._engine.loaded.model)
