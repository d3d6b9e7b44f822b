"""Several sequences in one compiled pass: every row finds its own sequence's cache, wherever that lies.

The tokens of all sequences lie side by side, so that a weight is read once for all of them; nothing is padded
and no cache is copied. What serves one sequence is the same program, so that company changes no row's bits
where rows do not depend on their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch.export import Dim
from transformers.cache_utils import DynamicLayer

from specbench.engine.compiled.attention import Asked
from specbench.engine.compiled.checks import SPARE
from specbench.engine.compiled.engine import DEFAULT_CAPACITY, WIDEST, CompiledEngine
from specbench.engine.compiled.layers import COUNTS_ITS_CACHE, CannotCompileError, counts_its_cache
from specbench.engine.compiled.session import CompiledSession
from specbench.engine.compiled.step import Step
from specbench.engine.session import KVSession

if TYPE_CHECKING:
    from specbench.engine.session import Block
    from specbench.models.loading import LoadedModel
    from specbench.models.vocabulary import DraftVocabulary

Part = tuple["PackedSession", Sequence[int], Sequence[int] | None]
"""A session, the ids of the model's own that it is to read, and their parents in a tree."""


class PackedStep(Step):
    """Reads tokens of several sequences, and says what follows them."""

    def forward(  # type: ignore[override]  # the exporter calls it, with what `_example` gives
        self,
        token_ids: torch.Tensor,
        places: torch.Tensor,
        rows: torch.Tensor,
        spans: torch.Tensor,
        addresses: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """One pass; the caches receive the keys and values of the tokens.

        Args:
            token_ids: shape (1, width), the model's own ids, sequence by sequence.
            places: `trees.places` of each sequence's tokens, shape (3, width).
            rows: which tokens' logits are wanted, shape (rows,).
            spans: tokens of this pass, tokens before them, and room, shape (sequences, 3).
            addresses: where keys of all layers lie, then values, shape (sequences, 2 * layers).

        Returns:
            As of `Step.forward`.
        """
        ops, kept = torch.ops.specbench, [_PassingLayer() for _ in range(addresses.shape[1] // 2)]

        def attend(states: tuple[torch.Tensor, ...], asked: Asked) -> torch.Tensor:
            known = places, spans, addresses, _whose(states, kept), asked.scale
            if extras := asked.extras:
                *limits, sinks, slopes, rounded = extras
                # An empty list does not reach the operator: a sink without weight is none, and so is no slope.
                sink, slope = (states[0].new_full((states[0].shape[1],), none) for none in (-torch.inf, 0.0))
                heads = sinks or [sink], slopes or [slope]
                return ops.attend_packed_within(*states, *known, *limits, *heads, rounded)
            return ops.attend_packed(*states, *known)

        exchanged = self._exchanged(attend)
        return self._read(token_ids, places[1], rows, self._shared(kept), exchanged)


class PackedEngine(CompiledEngine):
    """The compiled engine for several sequences a pass, on the CPU.

    Raises:
        CannotCompileError: what stands in the way.
    """

    _step_type = PackedStep

    def __init__(
        self,
        loaded: LoadedModel,
        vocabulary_size: int,
        draft_vocabulary: DraftVocabulary | None = None,
        batch_invariant: bool = False,
    ) -> None:
        if loaded.device.type != "cpu":  # a captured step takes one sequence
            raise CannotCompileError("shared passes are compiled for the CPU only")
        super().__init__(loaded, vocabulary_size, draft_vocabulary, batch_invariant)

    def _choose_kernels(self) -> None:
        if not self._attends or not self._step({}).knows_positions:
            raise CannotCompileError("sequences share a pass only where attention can be exchanged")
        if counts_its_cache(self.loaded.model.config):
            raise CannotCompileError(COUNTS_ITS_CACHE)
        self._most_rows = SPARE if self._batch_invariant else WIDEST
        super()._choose_kernels()

    def session(self, capacity: int | None = None) -> PackedSession:
        """A cache slot for one sequence, empty, with room for `capacity` tokens and one refused draft."""
        room = (DEFAULT_CAPACITY if capacity is None else capacity) + SPARE
        return PackedSession(self, room, room)

    @torch.inference_mode()
    def extend_together(self, blocks: Sequence[Block]) -> list[torch.Tensor]:
        """Append tokens to several sessions; a batch-invariant engine passes over at most `SPARE` at a time."""
        found: list[torch.Tensor] = []
        for group in _groups(blocks, self._most_rows):
            parts = [
                (block.session, self.to_own_ids(block.token_ids), block.parents)
                for block in group
                if isinstance(block.session, PackedSession)
            ]
            widths = [len(block.token_ids) for block in group]
            logits = self.run_packed(parts, torch.arange(sum(widths)))[0]
            found += self.to_target_logits(logits).split(widths)
        for block in blocks:
            block.session.grown(len(block.token_ids), block.parents)
        return found

    def run_packed(self, parts: Sequence[Part], rows: torch.Tensor) -> list[torch.Tensor]:
        """One pass; see `PackedStep.forward`. All sessions have the same `hidden_layers`."""
        tokens = [token for _, token_ids, _ in parts for token in token_ids]
        spans = [(len(token_ids), session.length, session.capacity) for session, token_ids, _ in parts]
        places = [torch.tensor(session.places(len(ids), parents)) for session, ids, parents in parts]
        addresses = torch.stack([session.addresses for session, _, _ in parts])
        self.passes += 1
        layers = parts[0][0].hidden_layers
        found = self._program_with(layers)(
            [torch.tensor([tokens]), torch.cat(places, 1), rows, torch.tensor(spans), addresses]
        )
        if layers:
            states = found[2].split([len(token_ids) for _, token_ids, _ in parts])
            for (session, _, _), own in zip(parts, states, strict=True):
                session.hidden_states = own
        return found

    def _example(self) -> tuple:
        """Arguments of `PackedStep.forward`; nothing is read or written while they are traced."""
        spans = torch.tensor([[2, 0, DEFAULT_CAPACITY], [3, 1, DEFAULT_CAPACITY]])
        addresses = torch.zeros(2, 2 * len(self._kept), dtype=torch.long)
        tokens, places = torch.zeros(1, 5, dtype=torch.long), torch.tensor([[0, 1, 1, 2, 3]] * 2 + [[0] * 5])
        return tokens, places, torch.arange(2), spans, addresses

    def _varying(self) -> tuple:
        width, rows = Dim("width", min=1, max=WIDEST), Dim("rows", min=1, max=WIDEST)
        sequences = {0: Dim("sequences", min=1, max=WIDEST)}
        return {1: width}, {1: width}, {0: rows}, sequences, sequences


class PackedSession(CompiledSession):
    """One sequence in tensors of fixed size that lie where `addresses` says, for as long as this lives."""

    _engine: PackedEngine

    def __init__(self, engine: PackedEngine, capacity: int, room: int) -> None:
        super().__init__(engine, capacity, room)
        self.capacity = capacity
        self.addresses = torch.tensor([tensor.data_ptr() for tensor in self._slot])

    draft_greedy = KVSession.draft_greedy

    def _pass(
        self, token_ids: torch.Tensor, rows: torch.Tensor, parents: Sequence[int] | None = None
    ) -> list[torch.Tensor]:
        tokens = token_ids[0].tolist()
        result = self._engine.run_packed([(self, tokens, parents)], rows)
        self.grown(len(tokens), parents)
        return result


class _PassingLayer(DynamicLayer):
    """Keeps nothing: attention writes keys and values to where they belong."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Hand them on."""
        self.keys, self.values = key_states, value_states
        return key_states, value_states


def _whose(states: Sequence[torch.Tensor], layers: Sequence[_PassingLayer]) -> int:
    """Which layer's keys and values a pass attends over; a layer may read another's.

    Raises:
        CannotCompileError: none's, so that they would be kept as they are not.
    """
    for index, layer in enumerate(layers):
        if layer.keys is states[1] and layer.values is states[2]:
            return index
    raise CannotCompileError("its attention makes other keys or values of those that are kept")


def _groups(blocks: Sequence[Block], most_rows: int) -> Iterator[list[Block]]:
    """Blocks in order, as many at a time as have so many tokens together, at least one, and one program."""
    group: list[Block] = []
    for block in blocks:
        other = group and group[0].session.hidden_layers != block.session.hidden_layers
        if other or (group and sum(len(one.token_ids) for one in [*group, block]) > most_rows):
            yield group
            group = []
        group.append(block)
    if group:
        yield group
