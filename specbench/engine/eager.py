"""The eager engine: transformers' own forward pass, and a cache that grows."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from specbench.engine import packed
from specbench.engine.base import PROBED_TOKENS
from specbench.engine.eager_session import EagerPasses, EagerSession
from specbench.engine.hidden_states import collecting
from specbench.engine.session import Block
from specbench.engine.stateful_session import StatefulSession
from specbench.errors import ExitCode, SpecbenchError, is_out_of_memory
from specbench.models import caches
from specbench.models.context import switch_of
from specbench.models.library import demand_cache_argument
from specbench.models.media import inputs_of

if TYPE_CHECKING:
    from transformers.cache_utils import Cache

    from specbench.models.loading import LoadedModel
    from specbench.models.media import Media
    from specbench.models.vocabulary import DraftVocabulary


PREFILL_CHUNK = 2048
"""Tokens of a prompt that are read in one pass: what a pass needs beside the cache grows with them."""


class EagerEngine(EagerPasses):
    """Runs a model with transformers' own forward pass; each session has a growing cache of its own."""

    kind = "eager"

    def __init__(
        self, loaded: LoadedModel, vocabulary_size: int, draft_vocabulary: DraftVocabulary | None = None
    ) -> None:
        super().__init__(loaded, vocabulary_size, draft_vocabulary)
        self.cache_argument = demand_cache_argument(loaded.model, loaded.folder)
        """What the model's forward calls its cache."""
        # A recurrent state may begin anew with each pass, and rotary frequencies depend on a pass's length.
        in_parts = self.state is None and switch_of(loaded.model.config) is None
        self.prefill_chunk = PREFILL_CHUNK if in_parts else None
        takes = inspect.signature(loaded.model.forward).parameters
        self._keeps_logits = "logits_to_keep" in takes
        # RoBERTa and its kin count positions from behind their padding id, and do it best themselves.
        counts = any(hasattr(part, "create_position_ids_from_input_ids") for part in loaded.model.modules())
        self._takes_positions = "position_ids" in takes and not counts
        self.state_holder = None
        self.reads_singly = False
        self._newest: weakref.ref[EagerSession] | None = None

    def session(self, capacity: int | None = None) -> EagerSession:
        """A cache slot for one sequence, empty; it grows as needed, so `capacity` does not matter."""
        session = StatefulSession(self) if self.state else EagerSession(self)
        self._newest = weakref.ref(session)
        return session

    def require_steps(self) -> None:
        """As of every engine; learns too how the model keeps the state of a text."""
        super().require_steps()
        if self.state:
            is_apart = torch.equal(self._after_prompt(), self._after_prompt(between=True))
            self.state_holder = None if is_apart else self.loaded.model
            self.reads_singly = not self._reads_blocks()

    def demand_apart(self, session: EagerSession) -> None:
        """As of `EagerPasses`."""
        if self.state_holder is not None and self._newest is not None and self._newest() is not session:
            raise SpecbenchError(
                f"{type(self.loaded.model).__name__} keeps the state of one text, and another one has begun",
                "decode one text at a time",
                ExitCode.RUN,
            )

    def _after_prompt(self, between: bool = False) -> torch.Tensor:
        """Logits of a token behind a prompt, with or without another text between them."""
        session = self.session()
        session.prefill(self._tokens(3))
        if between:
            self.session().prefill(self._tokens(5)[::-1])
        return session.extend(self._tokens(1))

    def _reads_blocks(self) -> bool:
        """Whether a pass over several tokens behind a prompt says what passes over one each do."""
        prompt, block = self._tokens(PROBED_TOKENS), self._tokens(4)[::-1]
        steps = self.session()
        steps.prefill(prompt)
        expected = torch.cat([steps.extend([token]) for token in block]).double()
        wide = self.session()
        wide.prefill(prompt)
        try:
            found = wide.extend(block).double()
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return False
        known = expected.isfinite() & found.isfinite()
        worst = (found - expected)[known].abs().max() / expected[known].abs().max()
        return bool(worst <= torch.finfo(self.loaded.dtype).eps ** 0.5)  # half of the digits

    @cached_property
    def state(self) -> str | None:
        """What transformers says of the model's class."""
        if caches.rolls_back(self.loaded.model):
            return None
        return f"{type(self.loaded.model).__name__} keeps a state of its text, which stands at one place of it"

    def forward(
        self,
        token_ids: Sequence[int],
        cache: Cache | None,
        start: int,
        last: int,
        given: torch.Tensor | None = None,
        media: Media | None = None,
    ) -> tuple[torch.Tensor, Cache]:
        """As of `EagerPasses`."""
        device = self.loaded.device
        arguments: dict = {}
        if self._keeps_logits and last:
            arguments["logits_to_keep"] = last
        if self._takes_positions:
            arguments["position_ids"] = torch.arange(start, start + len(token_ids), device=device).unsqueeze(0)
        if given is not None:
            arguments["hidden_states"] = given.unsqueeze(0)
        if media is not None:
            arguments |= inputs_of(self.loaded, media, token_ids)
        self.passes += 1
        if cache is not None:
            arguments[self.cache_argument] = cache
        output = self.loaded.model(
            input_ids=torch.tensor([self.to_own_ids(token_ids)], device=device), use_cache=True, **arguments
        )
        logits = self.to_target_logits(output.logits[0, -last:])
        return logits, output[self.cache_argument] if cache is None else cache

    @torch.inference_mode()
    def extend_together(self, blocks: Sequence[Block]) -> list[torch.Tensor]:
        """Append tokens to several sessions in one pass; nothing is padded, and no cache copied.

        Raises:
            ValueError: neither sequences nor branches of a tree can share passes of this model.
        """
        if not self._takes_positions:
            raise ValueError(f"a {type(self.loaded.model).__name__} does not take the positions of its tokens")
        tokens: list[int] = []
        positions: list[int] = []
        seen: list[list[int]] = []
        for block in blocks:
            _, stand, sees = block.session.places(len(block.token_ids), block.parents)
            tokens += self.to_own_ids(block.token_ids)
            positions += stand
            seen.append(sees)
        device, widths = self.loaded.device, [len(block.token_ids) for block in blocks]
        sessions = [block.session for block in blocks]
        arguments = {}
        given = [session.given for session in sessions if session.given is not None]
        if given:
            arguments["hidden_states"] = torch.cat(given).unsqueeze(0)
        self.passes += 1
        asked = {layer for session in sessions for layer in session.hidden_layers}
        caches = [session.cache for session in sessions if isinstance(session, EagerSession)]
        with (
            packed.packing(self.loaded.model, caches, seen) as cache,
            collecting(self.loaded.model, asked) as found,
        ):
            logits = self.loaded.model(
                input_ids=torch.tensor([tokens], device=device),
                position_ids=torch.tensor([positions], device=device),
                use_cache=True,
                **{self.cache_argument: cache},
                **arguments,
            ).logits
        begin = 0
        for block, width in zip(blocks, widths, strict=True):
            block.session.hidden_states = found.of(block.session.hidden_layers, begin, width)
            block.session.grown(width, block.parents)
            begin += width
        return list(self.to_target_logits(logits[0]).split(widths))
