"""One sequence in a compiled engine's cache of fixed size."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import torch

from specbench.engine.base import Engine
from specbench.engine.finite import NotFiniteError
from specbench.engine.session import KVSession
from specbench.engine.trees import Places


class CompiledPasses(Engine):
    """What sessions of the compiled engine ask of it."""

    prefill_chunk: int
    """Tokens of a prompt that are read in one pass."""

    @abstractmethod
    def slot(self, capacity: int, session: CompiledSession | None = None) -> list[torch.Tensor]:
        """Keys of all layers, then their values."""

    @abstractmethod
    def run(
        self,
        token_ids: torch.Tensor,
        places: Places,
        rows: torch.Tensor,
        slot: list[torch.Tensor],
        hidden_layers: tuple[int, ...] = (),
        given: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        """One pass; see `Step.forward`."""

    @abstractmethod
    def draft(self, token_ids: torch.Tensor, places: Places, slot: list[torch.Tensor], count: int) -> list[int]:
        """A pass over `token_ids` and `count - 1` more; fewer ids come where logits are not finite."""

    @abstractmethod
    def demand_trees(self) -> None:
        """Refuse trees where a pass is not told what its tokens see.

        Raises:
            ValueError: saying so.
        """


class CompiledSession(KVSession):
    """One sequence in tensors of fixed size; forgetting moves a counter.

    Args:
        engine: hands out the tensors and runs the passes.
        capacity: of the tensors; what goes beyond `room` is for the padding of a captured pass.
    """

    def __init__(self, engine: CompiledPasses, capacity: int, room: int) -> None:
        super().__init__(engine.role)
        self._engine = engine
        self._room = room
        self._slot = engine.slot(capacity, self)

    @torch.inference_mode()
    def prefill(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Append a prompt in chunks; returns the logits after its last token, shape (1, vocabulary_size)."""
        self.demand_room(len(token_ids))
        own_ids, size = self._engine.to_own_ids(token_ids), self._engine.prefill_chunk

        def read(begin: int, end: int) -> torch.Tensor:
            return self._pass(torch.tensor([own_ids[begin:end]]), torch.tensor([end - begin - 1]))[0]

        ends = [*range(size, len(own_ids), size), len(own_ids)]
        return self._engine.to_target_logits(self.in_parts(ends, read))

    @torch.inference_mode()
    def extend(self, token_ids: Sequence[int], parents: Sequence[int] | None = None) -> torch.Tensor:
        """As of every session."""
        count = len(token_ids)
        self.demand_room(count)
        if parents is not None:
            self._engine.demand_trees()
        own_ids = torch.tensor([self._engine.to_own_ids(token_ids)])
        logits = self._pass(own_ids, torch.arange(count), parents)[0]
        return self._engine.to_target_logits(logits)

    @torch.inference_mode()
    def draft_greedy(self, unread: Sequence[int], count: int) -> list[int]:
        """Append `unread`, then the model's own most likely tokens, each behind the one before.

        The ids stay in the model's own vocabulary, the choice is made in the pass, and the loop is compiled.
        """
        if count == 0:
            return []
        taken = len(unread) + count - 1
        self.demand_room(taken)
        tokens = torch.tensor([self._engine.to_own_ids(unread)])
        drafted = self._engine.draft(tokens, self.places(len(unread)), self._slot, count)
        if len(drafted) < count:
            raise NotFiniteError(self._engine.role)
        self.grown(taken)
        return self._engine.to_target_ids(drafted)

    def _forget(self, count: int) -> None:
        pass  # what lies behind the length is never read

    @property
    def cached_length(self) -> int:
        """The same as `length`: the counter is all there is."""
        return self._length

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The cache's tensors with their names, for the precision audit."""
        layers = len(self._slot) // 2
        for index, tensor in enumerate(self._slot):
            kind = "keys" if index < layers else "values"
            yield f"cache.layers.{index % layers}.{kind}", tensor[:, :, : self._length]

    def _pass(
        self, token_ids: torch.Tensor, rows: torch.Tensor, parents: Sequence[int] | None = None
    ) -> list[torch.Tensor]:
        count = token_ids.shape[1]
        places = self.places(count, parents)
        result = self._engine.run(token_ids, places, rows, self._slot, self.hidden_layers, self.given)
        self.hidden_states = result[2] if self.hidden_layers else None
        self.grown(count, parents)
        return result

    def demand_room(self, count: int) -> None:
        """As of every session: compiled code that writes past the end kills the process."""
        if self._length + count > self._room:
            raise ValueError(
                f"a cache for {self._room} tokens holds {self._length} and cannot take {count} more"
            )
