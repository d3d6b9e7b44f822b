"""The cache of a draft that reads each token with the hidden state behind the token before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from specbench.engine.session import KVSession

if TYPE_CHECKING:
    from typing import TypeAlias

    Fuse: TypeAlias = Callable[[torch.Tensor], torch.Tensor]

READ_AT_ONCE = 64  # more than so many tokens are a prompt, whose logits nobody wants
OWN_LAYER = 1


class FedSession(KVSession):
    """A text in such a draft's cache, whose first token counts as read: there is no hidden state before it.

    What a token is read with is the target's hidden state where that is known, and else the draft's own, as
    EAGLE does it (Li et al. 2024). Own ones are made good later: `feed` forgets what was read with them.

    Args:
        session: of the draft's engine, empty.
        capacity: tokens of the text at most.
        fuse: makes of the target's hidden states (tokens, layers, size) what the draft reads (tokens, size).
    """

    def __init__(self, session: KVSession, role: str, capacity: int, fuse: Fuse) -> None:
        super().__init__(role)
        self._session = session
        session.hidden_layers = (OWN_LAYER,)
        self._fuse = fuse
        self._capacity = capacity
        self._fed: torch.Tensor | None = None
        self._known = 0  # of these, from the front
        self._own: dict[int, torch.Tensor] = {}
        self._root: int | None = None  # where the tree begins that the cache ends with

    @property
    def length(self) -> int:
        """Tokens of the text that were read, the first one included."""
        return self._session.length + 1

    def prefill(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Nothing yet: the target has not read the prompt. `feed` reads it.

        Returns:
            No logits, shape (0, 0).
        """
        return torch.empty(0, 0)

    @torch.inference_mode()
    def feed(self, states: torch.Tensor | None, text: Sequence[int]) -> None:
        """Take the target's hidden states behind the tokens that follow those known, and forget own guesses.

        Args:
            states: shape (tokens, layers, size); `None` where the text has ended.
            text: all committed tokens. A prompt is read at once, but for its last token.
        """
        self._session.truncate(min(self._session.length, self._known))
        self._root = None
        if states is None or not len(states):
            return
        fused = self._fuse(states)
        if self._fed is None:
            self._fed = fused.new_empty(self._capacity, fused.shape[-1])
        self._fed[self._known : self._known + len(fused)] = fused
        self._known += len(fused)
        begin, end = self._session.length, self._known - 1
        if end - begin > READ_AT_ONCE:
            self._session.given = self._fed[begin:end]
            self._session.prefill(text[begin + 1 : end + 1])

    @torch.inference_mode()
    def extend(self, token_ids: Sequence[int], parents: Sequence[int] | None = None) -> torch.Tensor:
        """As of every session; tokens behind the last known hidden state are read one after the other."""
        if parents is not None:
            return self._branch(token_ids, parents)
        rows, begin = [], 0
        while begin < len(token_ids):
            place = self._session.length
            count = max(1, min(self._known - place, len(token_ids) - begin))
            if self._fed is not None and place < self._known:
                given = self._fed[place : place + count]
            else:
                given = self._own[place - 1][None]
            rows.append(self._read(token_ids[begin : begin + count], None, given))
            begin += count
        return torch.cat(rows)

    def _branch(self, token_ids: Sequence[int], parents: Sequence[int]) -> torch.Tensor:
        """Read nodes of a tree, whose parents were read before; shape (nodes, vocabulary)."""
        if self._root is None:
            self._root = self._session.length
        given = torch.stack([self._own[self._root + parent] for parent in parents])
        return self._read(token_ids, parents, given)

    def _read(
        self, token_ids: Sequence[int], parents: Sequence[int] | None, given: torch.Tensor
    ) -> torch.Tensor:
        place = self._session.length
        self._session.given = given
        logits = self._session.extend(token_ids, parents)
        own = self._session.hidden_states
        assert own is not None
        # Behind a known hidden state nobody asks for the draft's own.
        first = max(place, self._known - 1)
        self._own.update(enumerate(own[first - place :, 0].unbind(0), start=first))
        return logits

    def _forget(self, count: int) -> None:
        self._session.truncate(max(self._session.length - count, 0))  # the first token was never read
        self._root = None

    @property
    def cached_length(self) -> int:
        """As of every session, the first token included."""
        return self._session.cached_length + 1

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """As of every session."""
        return self._session.tensors()
