"""The compiled engine: whole passes compiled ahead of time, over a cache of fixed size."""

from __future__ import annotations

import inspect
import logging
import warnings
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.export import Dim

from specbench.engine import huge_pages, kernels, trees
from specbench.engine.compiled import layers, own_attention, programs
from specbench.engine.compiled.checks import SPARE, demand_same_logits
from specbench.engine.compiled.cuda_graphs import WIDTHS, CapturedStep
from specbench.engine.compiled.layers import CannotCompileError
from specbench.engine.compiled.session import CompiledPasses, CompiledSession
from specbench.engine.compiled.step import Step, multiplied
from specbench.engine.eager import EagerEngine
from specbench.engine.kernels import choice
from specbench.engine.quiet import hushed
from specbench.engine.trees import Places
from specbench.errors import ExitCode, SpecbenchError
from specbench.models.common_tokens import CommonTokens
from specbench.models.context import reads_by_length, varying_positions
from specbench.models.feature_fed import is_feature_fed

if TYPE_CHECKING:
    from specbench.engine.session import Block
    from specbench.models.loading import LoadedModel
    from specbench.models.vocabulary import DraftVocabulary

logger = logging.getLogger(__name__)

PREFILL_CHUNK = 256
OWN_LAYER = 1  # a draft that reads hidden states has one layer, and reads that one's own output too
DEFAULT_CAPACITY = 512
WIDEST = 1 << 20


class CompiledEngine(CompiledPasses):
    """Runs one compiled pass, over any number of tokens, in a cache of fixed size.

    It is made in two steps, so that what several engines have to compile can be compiled at once: after the
    first, all is known that its program depends on, and `compile` comes before any pass.

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
        own = None if self._captures else own_attention.of(loaded.model)
        layers.demand_compilable(loaded.model, bool(own))
        if isinstance(draft_vocabulary, CommonTokens):
            raise CannotCompileError("a compiled draft would say tokens that the target lacks")
        by_length = reads_by_length(loaded.model.config)
        if by_length and self._captures:
            raise CannotCompileError("padding changes the length that its rotary frequencies depend on")
        self.prefill_chunk = WIDEST if by_length else PREFILL_CHUNK
        self._free: dict[int, list[list[torch.Tensor]]] = {}
        exchangeable = own or layers.allows(loaded.model, "_supports_attention_backend")
        self._attends = bool(exchangeable) and not self._captures
        self.adds_alibi = bool(own and own.alibi)
        if batch_invariant and not (self._attends and loaded.dtype == torch.float32):
            raise CannotCompileError("only float32 models with exchangeable attention are, on a CPU")
        if obstacle := varying_positions(loaded.model.config, self.adds_alibi):
            raise CannotCompileError(obstacle)
        self._batch_invariant = batch_invariant
        self._is_fed = is_feature_fed(loaded.model.config)
        if self._is_fed and self._captures:
            raise CannotCompileError("it reads hidden states, which captured passes do not")
        self._programs: dict[tuple[int, ...], programs.Program] = {}
        with programs.reasons():
            self._reference = EagerEngine(loaded, vocabulary_size, draft_vocabulary)
            self._layers = layers.kept_layers(self._reference)
            self._kept = [layer for layer in self._layers if layer]
            if not self._captures:
                self._choose_kernels()

    @property
    def is_to_be_made(self) -> bool:
        """Whether its program does not lie on disk yet, and takes a minute or two."""
        return not self._captures and not programs.is_kept(self._key)

    def make(self) -> programs.Program:
        """The program, from disk or compiled now.

        Raises:
            CannotCompileError: what stands in the way.
        """
        return self._made(self._ahead, self._key)

    def _made(self, step: Step, key: str) -> programs.Program:
        with programs.reasons(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of its own deprecated parts while it exports
            return programs.program(step, self._example(), self._varying(), key, self._batch_invariant)

    def compile(self) -> CompiledEngine:
        """Compile its pass, or read it from disk, and hold it against the model's own.

        Raises:
            CannotCompileError: what stands in the way.
        """
        with programs.reasons():
            captured = self._captured() if self._captures else None
            self._program = self.make() if captured is None else captured
            with hushed():
                demand_same_logits(self, self._reference, self._batch_invariant, self._kept)
            if captured is not None:
                self._see_every_width(captured.positions)
        return self

    @property
    def _captures(self) -> bool:
        """Whether passes are CUDA graphs."""
        return self.loaded.device.type != "cpu"

    def _captured(self) -> CapturedStep:
        logger.info("capturing %s at %d widths: minutes", type(self.loaded.model).__name__, len(WIDTHS))
        return CapturedStep(self._step({}))

    def _choose_kernels(self) -> None:
        """Settle what the program depends on; the products are measured, where nobody has measured them."""
        try:
            kernels.load()
        except SpecbenchError as error:
            raise CannotCompileError(error.message) from error
        huge_pages.move([*self.loaded.model.parameters(), *self.loaded.model.buffers()])
        weights = [weight for weight in multiplied(self.loaded.model) if weight.dtype == torch.float32]
        choice.settle_reading(weights)
        if self._batch_invariant:
            widths = WIDEST if layers.is_latent(self.loaded.model.config) else SPARE  # all is expanded
            self._widest = {tuple(weight.shape): widths for weight in weights}
        else:
            self._widest = choice.widest_by_shape(weights, programs.fingerprint(self._step({}), "kernels"))
        self._ahead = self._step(self._widest, (OWN_LAYER,) if self._is_fed else ())
        self._key = programs.fingerprint(self._ahead, self._batch_invariant)

    def extend_together(self, blocks: Sequence[Block]) -> list[torch.Tensor]:
        """As of every engine; `PackedEngine` can."""
        raise ValueError("its program was compiled for one sequence")

    def require_hidden_states(self, layers: Sequence[int], size: int) -> None:
        """As of every engine; a program of its own gives them, so that the control's stays as it is.

        Raises:
            SpecbenchError: what stands in the way.
        """
        wanted = tuple(layers)
        if self._captures:
            raise SpecbenchError(
                "captured passes on a GPU give no hidden states", "add --set engine.kind=eager"
            )
        if wanted not in self._programs:
            step = self._step(self._widest, wanted)
            try:
                program = self._made(step, programs.fingerprint(step, self._batch_invariant))
            except CannotCompileError as error:
                raise SpecbenchError(
                    f"{self.loaded.folder} cannot be compiled so that it gives the hidden states of its layers "
                    f"{', '.join(map(str, wanted))}: {error}",
                    "add --set engine.kind=eager",
                    ExitCode.MODEL,
                ) from error
            self._programs[wanted] = program
        super().require_hidden_states(layers, size)

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
            sizes = layers.shapes(self._kept, capacity)
            found = [make(size, dtype=dtype, device=self.loaded.device) for size, dtype in sizes]
        if self._captures and session:
            for tensor in found:
                torch._dynamo.mark_static_address(tensor)
            weakref.finalize(session, self._free.setdefault(capacity, []).append, found)
        return found

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
        self.passes += 1
        inputs = self._inputs(token_ids, places, rows, slot)
        if self._is_fed:
            inputs.append(self._zeros(token_ids.shape[1]) if given is None else given)
        return self._program_with(hidden_layers)(inputs)

    def _program_with(self, hidden_layers: tuple[int, ...]) -> programs.Program | CapturedStep:
        """The program that gives hidden states of these layers; a draft that reads some gives its own."""
        return self._program if self._is_fed or not hidden_layers else self._programs[hidden_layers]

    def _zeros(self, width: int) -> torch.Tensor:
        size = self.loaded.model.config.get_text_config(decoder=True).hidden_size
        return torch.zeros(width, size, dtype=self.loaded.dtype)

    def draft(self, token_ids: torch.Tensor, places: Places, slot: list[torch.Tensor], count: int) -> list[int]:
        """A pass over `token_ids` and `count - 1` more, each over the most likely token of the one before.

        Fewer come where logits are not finite: those before them.
        """
        rows = torch.tensor([token_ids.shape[1] - 1])
        self.passes += count
        return self._program.draft(self._inputs(token_ids, places, rows, slot), count)

    def demand_trees(self) -> None:
        """Refuse trees where a pass is not told what its tokens see.

        Raises:
            ValueError: saying so.
        """
        if not (self._attends and self._ahead.knows_positions):
            raise ValueError("its passes were compiled for chains" + " on a GPU" * self._captures)
        if layers.counts_its_cache(self.loaded.model.config):
            raise ValueError(layers.COUNTS_ITS_CACHE)

    def _inputs(
        self, token_ids: torch.Tensor, places: Places, rows: torch.Tensor, slot: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        device = self.loaded.device
        where = torch.tensor(places if self._attends else places[0][0])
        return [token_ids.to(device), where, rows.to(device), *slot]

    def _step(self, widest: dict[tuple[int, ...], int], hidden_layers: tuple[int, ...] = ()) -> Step:
        loaded, own = self.loaded, self.draft_vocabulary
        takes = inspect.signature(loaded.model.forward).parameters
        return self._step_type(
            loaded.model,
            attend=self._attends,
            keeps_logits="logits_to_keep" in takes,
            takes_positions="position_ids" in takes,
            vocabulary_size=len(own.target_ids) if own else self.vocabulary_size,
            widest=widest,
            layers=self._layers,
            hidden_layers=hidden_layers,
        ).eval()

    def _varying(self) -> tuple:
        """Which dimensions of `_example` vary."""
        width, rows = Dim("width", min=1, max=WIDEST), Dim("rows", min=1, max=WIDEST)
        slot = [{2: Dim("capacity", min=2, max=WIDEST)}] * len(self._kept)
        fed = [{0: width}] * self._is_fed
        return {1: width}, {1: width} if self._attends else None, {0: rows}, slot, slot, *fed

    def _example(self) -> tuple:
        """Arguments of `Step.forward`; no size is 1, which torch would take for a size that never varies."""
        # Nor is the width that of a head over its rotary part, 3 in DeepSeek-V2: torch would keep to that.
        width = 5 if layers.is_latent(self.loaded.model.config) else 3
        slot = self.slot(DEFAULT_CAPACITY)
        half = len(slot) // 2
        tokens = torch.zeros(1, width, dtype=torch.long)
        places = torch.tensor(trees.places(2, width, None) if self._attends else 2)
        fed = [self._zeros(width)] if self._is_fed else []
        return tokens, places, torch.arange(2), slot[:half], slot[half:], *fed

    def _see_every_width(self, positions: int) -> None:
        """Compile every width before a clock starts: a captured pass does it when it first sees one."""
        session = self.session()
        for width in WIDTHS:
            session.prefill(self.to_target_ids([0]) * min(width, positions))
            session.truncate(0)
