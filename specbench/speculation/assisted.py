"""transformers' assisted generation, round by round: a reference for `speculative`, and no part of it."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig

from specbench.clock import now_ms
from specbench.engine.finite import demanding_finite
from specbench.models.library import quiet_transformers
from specbench.profile import Options
from specbench.results.records import Round
from specbench.speculation.generate import QueueStreamer, stream
from specbench.speculation.request import Request

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from specbench.models.loading import LoadedModel
    from specbench.models.vocabulary import DraftVocabulary


class AssistedGeneration:
    """`model.generate(assistant_model=...)`, streamed; nothing is carried from one request to the next.

    Args:
        draft_vocabulary: how a draft with ids of its own reads and says the target's.
        dynamic: draft as transformers does by itself: at most 20 tokens, and none behind one that the draft
            gave a probability below 0.4 (Mamou et al. 2024). Else the profile's draft length.
    """

    def __init__(
        self,
        target: LoadedModel,
        draft: LoadedModel,
        draft_vocabulary: DraftVocabulary | None,
        options: Options,
        dynamic: bool,
    ) -> None:
        self._target = target
        self._assistant = in_target_ids(draft.model, draft_vocabulary, _vocabulary_size(target.model))
        self._options = options
        self._dynamic = dynamic

    def rounds(self, request: Request) -> Iterator[Round]:
        """Every block that `generate` commits, cut at the first stop token and at the budget.

        The draft begins before the target has read the prompt, so the first round may commit several tokens;
        its `prefilled` are prompt and draft.

        Raises:
            Whatever `generate` raises.
        """
        # A new one for every request: transformers writes what a schedule has learnt into it.
        self._assistant.generation_config = self._draft_settings()
        streamer = _BlockStreamer(len(request.prompt_ids))
        watch = self._target.model.register_forward_pre_hook(streamer.before_pass, with_kwargs=True)
        text, is_first = list(request.prompt_ids), True
        decoding = self._options.decoding
        blocks = stream(self._target, request, decoding, streamer, assistant_model=self._assistant)
        try:
            drafting = demanding_finite(self._assistant, "edge")
            with quiet_transformers(), drafting, contextlib.closing(blocks):
                for block in blocks:
                    tokens, finish_reason = request.cut(text, block.tokens)
                    if is_first:
                        yield Round(tokens=tokens, prefilled=len(request.prompt_ids) + len(block.drafted))
                    else:
                        yield block.round(tokens)
                    if finish_reason:
                        return
                    text += tokens
                    is_first = False
        finally:
            watch.remove()

    def _draft_settings(self) -> GenerationConfig:
        if self._dynamic:
            return GenerationConfig()  # what is not set are transformers' defaults
        return GenerationConfig(
            num_assistant_tokens=self._options.speculative.draft_length,
            num_assistant_tokens_schedule="constant",
            assistant_confidence_threshold=0.0,
        )


@dataclass(frozen=True)
class _Block:
    """What one pass of the target read and committed."""

    tokens: Sequence[int]
    drafted: Sequence[int]
    draft_ms: float
    verify_ms: float

    def round(self, committed: tuple[int, ...]) -> Round:
        """With what is left of the block after a cut.

        A correction is never the token that was refused, so what equals the draft was accepted.
        """
        accepted = 0
        for ours, theirs in zip(self.drafted, committed, strict=False):
            if ours != theirs:
                break
            accepted += 1
        return Round(
            tokens=committed,
            drafted=len(self.drafted),
            accepted=accepted,
            refused=tuple(self.drafted[accepted:]) if accepted < len(committed) else (),
            draft_ms=self.draft_ms,
            verify_ms=self.verify_ms,
        )


class _BlockStreamer(QueueStreamer):
    """Learns what was drafted from what the target is about to read.

    Args:
        prompt_tokens: how many ids stand before the draft in the first pass.
    """

    def __init__(self, prompt_tokens: int) -> None:
        super().__init__()
        self._undrafted = prompt_tokens
        self._began_ms = now_ms()

    def before_pass(self, module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        """Hook of the target's forward pass."""
        self._read = kwargs["input_ids"]
        self._read_ms = now_ms()

    def put(self, value: torch.Tensor) -> None:
        """As of every streamer; the next draft begins when the next block is asked for."""
        super().put(value)
        self._began_ms = now_ms()

    def item(self, tokens: list[int]) -> _Block:
        """The block that the last pass led to."""
        committed_ms = now_ms()
        drafted = self._read[0, self._undrafted :].tolist()
        block = _Block(tokens, drafted, self._read_ms - self._began_ms, committed_ms - self._read_ms)
        self._undrafted = 1  # of the committed text only the last token is unread
        return block


def in_target_ids(
    draft: PreTrainedModel, vocabulary: DraftVocabulary | None, target_size: int
) -> PreTrainedModel:
    """A second view of the draft's weights, whose generation config can be set without touching the first.

    Where `generate` would see another vocabulary size than the target's and ask for tokenizers (universal
    assisted generation, which drafts text and reads it anew), the view reads and says the target's ids.

    Args:
        target_size: rows of the target's output, padding included.
    """
    view = copy.copy(draft)
    if vocabulary is None and _vocabulary_size(draft) == target_size:
        return view

    @functools.wraps(draft.forward)  # generate asks for its signature
    def forward(input_ids: torch.Tensor, **arguments: object) -> object:
        if vocabulary:
            own_ids = vocabulary.to_draft(input_ids[0].tolist())
            input_ids = torch.tensor([own_ids], device=input_ids.device)
        output = draft.forward(input_ids=input_ids, **arguments)
        said = vocabulary.scatter(output.logits[0])[None] if vocabulary else output.logits
        logits = said.new_full((*said.shape[:-1], target_size), -math.inf)
        kept = min(target_size, said.shape[-1])
        logits[..., :kept] = said[..., :kept]
        output.logits = logits
        return output

    view.forward = forward
    view.config = copy.deepcopy(draft.config)
    view.config.get_text_config().vocab_size = target_size
    return view


def _vocabulary_size(model: PreTrainedModel) -> int:
    return model.config.get_text_config().vocab_size
