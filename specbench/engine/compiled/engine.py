"""The compiled engine: whole passes compiled ahead of time, over a cache of fixed size."""

from __future__ import annotations

import inspect
import logging
import warnings
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch.export import Dim

from specbench.engine import huge_pages, kernels
from specbench.engine.base import Engine
from specbench.engine.compiled import programs
from specbench.engine.compiled.checks import SPARE, demand_same_logits
from specbench.engine.compiled.cuda_graphs import WIDTHS, CapturedStep
from specbench.engine.compiled.step import CannotCompileError, Step, slot_shapes
from specbench.engine.eager import EagerEngine
from specbench.engine.finite import NotFiniteError
from specbench.engine.kernels import choice
from specbench.engine.quiet import hushed
from specbench.engine.session import KVSession
from specbench.errors import SpecbenchError
from specbench.models.common_tokens import CommonTokens
from specbench.models.context import reads_by_length, varying_positions

if TYPE_CHECKING:
    from specbench.engine.session import Block
    from specbench.models.loading import LoadedModel
    from specbench.models.vocabulary import DraftVocabulary

logger = logging.getLogger(__name__)

PREFILL_CHUNK = 256
DEFAULT_CAPACITY = 512
WIDEST = 1 << 20


class CompiledEngine(Engine):
    """Runs one compiled pass, over any number of tokens, in a cache of fixed size.

    Args:
        batch_invariant: every row of a pass over at most `SPARE` tokens has the bits that it would have alone.

    Raises:
        CannotCompileError: what stands in the way.
    """

    kind = "compiled"
    _step_type = Step

    def __init__(
        self,
        loaded: LoadedModel,
        vocabulary_size: int,
        draft_vocabulary: DraftVocabulary | None = None,
        batch_invariant: bool = False,
    ) -> None:
        super().__init__(loaded, vocabulary_size, draft_vocabulary)
        if not getattr(loaded.model, "_can_compile_fullgraph", False):
            raise CannotCompileError(f"transformers cannot compile a {type(loaded.model).__name__}")
        if isinstance(draft_vocabulary, CommonTokens):
            raise CannotCompileError("a compiled draft would say tokens that the target lacks")
        if (getattr(loaded.model, "tp_size", None) or 1) > 1:
            raise CannotCompileError("its weights are split over ranks")
        if len(set(getattr(loaded.model, "hf_device_map", {}).values())) > 1:
            raise CannotCompileError("its weights are spread over devices")
        by_length = reads_by_length(loaded.model.config)
        if by_length and self._captures:
            raise CannotCompileError("padding changes the length that its rotary frequencies depend on")
        self.prefill_chunk = WIDEST if by_length else PREFILL_CHUNK
        self._free: dict[int, list[list[torch.Tensor]]] = {}
        self._attends = not self._captures and getattr(loaded.model, "_supports_attention_backend", False)
        if batch_invariant and not (self._attends and loaded.dtype == torch.float32):
            raise CannotCompileError("only float32 models with exchangeable attention are, on a CPU")
        if obstacle := varying_positions(loaded.model.config):
            raise CannotCompileError(obstacle)
        with programs.reasons():
            eager = EagerEngine(loaded, vocabulary_size, draft_vocabulary)
            self._shapes = slot_shapes(eager)
            make = self._captured if self._captures else self._ahead_of_time
            self._program = make(batch_invariant)
            with hushed():
                demand_same_logits(self, eager, batch_invariant)
            if self._captures:
                self._see_every_width()

    @property
    def _captures(self) -> bool:
        """Whether passes are CUDA graphs."""
        return self.loaded.device.type != "cpu"

    def _captured(self, batch_invariant: bool) -> CapturedStep:
        logger.info("capturing %s at %d widths: minutes", type(self.loaded.model).__name__, len(WIDTHS))
        return CapturedStep(self._step({}))

    def _ahead_of_time(self, batch_invariant: bool) -> programs.Program:
        try:
            kernels.load()
        except SpecbenchError as error:
            raise CannotCompileError(error.message) from error
        huge_pages.move([*self.loaded.model.parameters(), *self.loaded.model.buffers()])
        linears = [part for part in self.loaded.model.modules() if type(part) is torch.nn.Linear]
        weights = [part.weight for part in linears if part.weight.dtype == torch.float32]
        if batch_invariant:
            widest = {tuple(weight.shape): SPARE for weight in weights}
        else:
            widest = choice.widest_by_shape(weights, programs.fingerprint(self._step({}), "kernels"))
        step = self._step(widest)
        key = programs.fingerprint(step, batch_invariant)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of its own deprecated parts while it exports
            return programs.program(step, self._example(), self._varying(), key, batch_invariant)

    def extend_together(self, blocks: Sequence[Block]) -> list[torch.Tensor]:
        """As of every engine; `PackedEngine` can."""
        raise ValueError("its program was compiled for one sequence")

    def session(self, capacity: int | None = None) -> CompiledSession:
        """A cache slot for one sequence, empty, with room for `capacity` tokens and one refused draft."""
        room = (DEFAULT_CAPACITY if capacity is None else capacity) + SPARE
        if not self._captures:
            return CompiledSession(self, room, room)
        # Short requests share the size whose widths were compiled before the clock started.
        usual = DEFAULT_CAPACITY + SPARE
        return CompiledSession(self, CapturedStep.room(max(room, usual), PREFILL_CHUNK), room)

    def slot(self, capacity: int, session: CompiledSession | None = None) -> list[torch.Tensor]:
        """Keys of all layers, then their values; a captured pass wants the same ones for the next session.

        `specbench::attend` reads only what was written; a model's own attention multiplies the rest by zero.
        """
        if self._free.get(capacity):
            found = self._free[capacity].pop()
        else:
            make = torch.empty if self._attends else torch.zeros
            parts = [part for layers in zip(*self._shapes, strict=True) for part in layers]
            device = self.loaded.device
            found = [
                make((1, heads, capacity, size), dtype=dtype, device=device) for heads, size, dtype in parts
            ]
        if self._captures and session:
            for tensor in found:
                torch._dynamo.mark_static_address(tensor)
            weakref.finalize(session, self._free.setdefault(capacity, []).append, found)
        return found

    def run(
        self, token_ids: torch.Tensor, start: int, rows: torch.Tensor, slot: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        """One pass; see `Step.forward`."""
        self.passes += 1
        return self._program(self._inputs(token_ids, start, rows, slot))

    def draft(self, token_ids: torch.Tensor, start: int, slot: list[torch.Tensor], count: int) -> list[int]:
        """A pass over `token_ids` and `count - 1` more, each over the most likely token of the one before.

        Fewer come where logits are not finite: those before them.
        """
        rows = torch.tensor([token_ids.shape[1] - 1])
        self.passes += count
        return self._program.draft(self._inputs(token_ids, start, rows, slot), count)

    def _inputs(
        self, token_ids: torch.Tensor, start: int, rows: torch.Tensor, slot: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        device = self.loaded.device
        return [token_ids.to(device), torch.tensor(start), rows.to(device), *slot]

    def _step(self, widest: dict[tuple[int, ...], int]) -> Step:
        loaded, own = self.loaded, self.draft_vocabulary
        takes = inspect.signature(loaded.model.forward).parameters
        return self._step_type(
            loaded.model,
            attend=self._attends,
            keeps_logits="logits_to_keep" in takes,
            takes_positions="position_ids" in takes,
            vocabulary_size=len(own.target_ids) if own else self.vocabulary_size,
            widest=widest,
        ).eval()

    def _varying(self) -> tuple:
        """Which dimensions of `_example` vary."""
        width, rows = Dim("width", min=1, max=WIDEST), Dim("rows", min=1, max=WIDEST)
        slot = [{2: Dim("capacity", min=2, max=WIDEST)}] * len(self._shapes)
        return {1: width}, None, {0: rows}, slot, slot

    def _example(self) -> tuple:
        """Arguments of `Step.forward`; no size is 1, which torch would take for a size that never varies."""
        slot = self.slot(DEFAULT_CAPACITY)
        half = len(slot) // 2
        tokens = torch.zeros(1, 3, dtype=torch.long)
        return tokens, torch.tensor(2), torch.arange(2), slot[:half], slot[half:]

    def _see_every_width(self) -> None:
        """Compile every width before a clock starts: a captured pass does it when it first sees one."""
        session = self.session()
        for width in WIDTHS:
            session.prefill(self.to_target_ids([0]) * min(width, self._program.positions))
            session.truncate(0)


class CompiledSession(KVSession):
    """One sequence in tensors of fixed size; forgetting moves a counter.

    Args:
        capacity: of the tensors; what goes beyond `room` is for the padding of a captured pass.
    """

    def __init__(self, engine: CompiledEngine, capacity: int, room: int) -> None:
        super().__init__(engine.role)
        self._engine = engine
        self._room = room
        self._slot = engine.slot(capacity, self)

    @torch.inference_mode()
    def prefill(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Append a prompt in chunks; returns the logits after its last token, shape (1, vocabulary_size)."""
        self.demand_room(len(token_ids))
        own_ids = self._engine.to_own_ids(token_ids)
        size = self._engine.prefill_chunk
        for begin in range(0, len(own_ids), size):
            chunk = own_ids[begin : begin + size]
            logits, _ = self._pass(torch.tensor([chunk]), torch.tensor([len(chunk) - 1]))
        return self._engine.to_target_logits(logits)

    @torch.inference_mode()
    def extend(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Append tokens; row i of the result follows token i, shape (len(token_ids), vocabulary_size)."""
        self.demand_room(len(token_ids))
        logits, _ = self._pass(torch.tensor([self._engine.to_own_ids(token_ids)]), torch.arange(len(token_ids)))
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
        drafted = self._engine.draft(tokens, self._length, self._slot, count)
        if len(drafted) < count:
            raise NotFiniteError(self._engine.role)
        self._length += taken
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

    def _pass(self, token_ids: torch.Tensor, rows: torch.Tensor) -> list[torch.Tensor]:
        result = self._engine.run(token_ids, self._length, rows, self._slot)
        self._length += token_ids.shape[1]
        return result

    def demand_room(self, count: int) -> None:
        """Refuse before anything is written: compiled code that writes past the end kills the process.

        Raises:
            ValueError: the cache was made for fewer tokens.
        """
        if self._length + count > self._room:
            raise ValueError(
                f"a cache for {self._room} tokens holds {self._length} and cannot take {count} more"
            )
