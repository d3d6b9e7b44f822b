"""The target writes: many sequences at once, and for every token the target's most probable ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from specbench.distill.slots import SlotCache

LOOP_CHECK_TOKENS = 48
BLOCK = 64  # logits that are compared before the highest ones are sought


@dataclass(frozen=True)
class Request:
    """A text to be continued.

    Args:
        prompt: token ids.
        budget: tokens to write at most.
        temperature: 0 is greedy; else a sample of the whole distribution at that temperature.
        seed: of this text's own random numbers, so that the batch does not matter.
    """

    prompt: tuple[int, ...]
    budget: int
    temperature: float
    seed: tuple[int, ...]


@dataclass
class Written:
    """What was written: token ids, and at each the target's top-k as [tokens, k] ids and log-probabilities.

    `stopped`: by a stop token, which is the last one; `looping`: it repeated itself and was cut off. `states`:
    the hidden states behind prompt and tokens, all but the last one, if the writer reads any.
    """

    tokens: list[int] = field(default_factory=list)
    top_ids: list[np.ndarray] = field(default_factory=list)
    top_log_probs: list[np.ndarray] = field(default_factory=list)
    stopped: bool = False
    looping: bool = False
    states: torch.Tensor | None = None


Text = Generator[Request, Written, None]
"""A text in progress: it asks for what shall be written next, and is handed it."""


@dataclass
class _Slot:
    """What is being written for a text."""

    text: Text
    request: Request
    random: np.random.Generator
    written: Written = field(default_factory=Written)


@dataclass(frozen=True)
class Writer:
    """A loaded target, as a machine that continues texts.

    Args:
        vocabulary_size: logits beyond it are padding.
        top_k: how many of the most probable tokens are kept.
        layers: of the target, whose hidden states are kept; as of `Features`.
    """

    model: PreTrainedModel
    vocabulary_size: int
    stop_ids: frozenset[int]
    top_k: int
    sequences_at_once: int
    layers: tuple[int, ...] = ()

    def write(self, requests: Sequence[Request]) -> list[Written]:
        """Continue every request; the results have the order of the requests."""
        results = [Written() for _ in requests]

        def alone(index: int) -> Text:
            results[index] = yield requests[index]

        capacity = max((len(request.prompt) + request.budget for request in requests), default=0)
        self.play([alone(index) for index in range(len(requests))], capacity)
        return results

    def play(self, texts: Sequence[Text], capacity: int) -> None:
        """Write all that the texts ask for, each in its own time.

        A text that ends makes room for the next one at once, so that the passes stay wide.

        Args:
            capacity: tokens of the longest sequence, prompt included.
        """
        import torch

        from specbench.distill.slots import SlotCache, slot_attention

        waiting = deque(texts)
        cache = SlotCache(min(self.sequences_at_once, len(texts)), capacity, self.model, self.layers)
        slots: list[_Slot] = []
        with torch.inference_mode(), slot_attention(self.model, cache):
            while waiting or slots:
                if waiting and len(slots) < cache.slots:
                    self._begin(cache, len(slots), slots, waiting.popleft(), None)
                    continue
                self._append(cache.extend(self.model, [each.written.tokens[-1] for each in slots]), slots)
                for number in reversed(range(len(slots))):
                    if self._finished(slots[number]):
                        self._begin(cache, number, slots, slots[number].text, slots[number].written)

    def _begin(
        self, cache: SlotCache, number: int, slots: list[_Slot], text: Text, written: Written | None
    ) -> None:
        """Hand a text what it asked for, and begin its next request; the slot of an ended text is given up."""
        while True:
            if written is not None and self.layers:
                written.states = cache.states(number)
            try:
                request = text.send(written)  # type: ignore[arg-type]  # None begins it
            except StopIteration:
                if number < len(slots):
                    cache.free(number, len(slots) - 1)
                    slots[number] = slots[-1]
                    slots.pop()
                return
            begun = _Slot(text, request, np.random.default_rng(request.seed))
            self._append(cache.begin(self.model, number, request.prompt), [begun])
            if not self._finished(begun):
                slots[number : number + 1] = [begun]
                return
            written = begun.written

    def _append(self, logits: torch.Tensor, slots: Sequence[_Slot]) -> None:
        """Choose the next token of every slot from logits [rows, vocabulary], and note it."""
        from specbench.engine.finite import demand_finite

        logits = logits[:, : self.vocabulary_size].float()
        ids = highest(logits, min(self.top_k, self.vocabulary_size))
        best = logits.gather(1, ids)
        demand_finite(best, "target")  # what is not a number counts as the highest
        log_probs = (best - logits.logsumexp(-1, keepdim=True)).cpu().numpy()
        tokens = ids[:, 0].tolist()
        for row, token in self._sampled(logits, slots):
            tokens[row] = token
        top_ids = ids.cpu().numpy()
        for row, each in enumerate(slots):
            each.written.tokens.append(tokens[row])
            each.written.top_ids.append(top_ids[row])
            each.written.top_log_probs.append(log_probs[row])

    def _sampled(self, logits: torch.Tensor, slots: Sequence[_Slot]) -> list[tuple[int, int]]:
        """Rows that are not greedy, each with a sample by the inverse of its cumulated distribution."""
        import torch

        rows = [row for row, each in enumerate(slots) if each.request.temperature]
        if not rows:
            return []
        temperatures = [slots[row].request.temperature for row in rows]
        scaled = logits[rows] / torch.tensor(temperatures, device=logits.device)[:, None]
        cumulated = torch.softmax(scaled, -1).cumsum(-1)
        numbers = [[slots[row].random.random()] for row in rows]
        drawn = torch.tensor(numbers, dtype=cumulated.dtype, device=cumulated.device)
        tokens = torch.searchsorted(cumulated, drawn * cumulated[:, -1:]).squeeze(1)
        return list(zip(rows, tokens.clamp_max(self.vocabulary_size - 1).tolist(), strict=True))

    def _finished(self, slot: _Slot) -> bool:
        written = slot.written
        written.stopped = written.tokens[-1] in self.stop_ids
        written.looping = not written.stopped and is_looping(written.tokens)
        return written.stopped or written.looping or len(written.tokens) >= slot.request.budget


def highest(logits: torch.Tensor, count: int) -> torch.Tensor:
    """Where the `count` highest logits of each row are, highest first, [rows, count].

    They lie in the blocks whose own highest are the highest, so only these are sorted.
    """
    import torch

    rows, size = logits.shape
    blocks = size // BLOCK
    if blocks <= 2 * count:
        return logits.topk(count, -1).indices
    whole = logits[:, : blocks * BLOCK]
    best = whole.unflatten(1, (blocks, BLOCK)).amax(-1).topk(count, -1).indices
    places = (best[:, :, None] * BLOCK + torch.arange(BLOCK, device=logits.device)).flatten(1)
    rest = torch.arange(blocks * BLOCK, size, device=logits.device).expand(rows, -1)
    places = torch.cat([places, rest], 1)
    return places.gather(1, logits.gather(1, places).topk(count, -1).indices)


def is_looping(tokens: Sequence[int]) -> bool:
    """Whether the last tokens are one short phrase again and again: three times, and 40 tokens at least."""
    if len(tokens) < LOOP_CHECK_TOKENS or len(tokens) % 8:
        return False
    for period in range(1, 33):
        span = max(3 * period, 40)
        if span > len(tokens):
            return False
        tail = tokens[-span:]
        if tail[period:] == tail[:-period]:
            return True
    return False
