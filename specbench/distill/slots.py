"""A key-value cache of slots, so that texts of any length are written side by side and replaced one by one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from specbench.models.library import cache_argument

ATTENTION = "specbench_slots"
ROUNDED_TO = 64  # attention reads the cache up to a multiple of this


class SlotLengths:
    """Tokens that each of `slots` sequences holds, of at most `capacity`; the layers of a cache share it."""

    def __init__(self, slots: int, capacity: int, device: torch.device) -> None:
        self.slots = slots
        self.capacity = -(-capacity // ROUNDED_TO) * ROUNDED_TO
        self.tokens = torch.zeros(slots, dtype=torch.long, device=device)

    def reach(self, rows: int) -> int:
        """How far attention has to look, the token that is being added included."""
        longest = int(self.tokens[:rows].max()) + 1
        return min(-(-longest // ROUNDED_TO) * ROUNDED_TO, self.capacity)


class SlotLayer(CacheLayerMixin):
    """Keys and values of one layer: [slots, heads, capacity, width], written at each slot's own length."""

    def __init__(self, lengths: SlotLengths) -> None:
        super().__init__()
        self.lengths = lengths

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make room for all slots."""
        slots, capacity = self.lengths.slots, self.lengths.capacity
        self.keys = key_states.new_zeros(slots, key_states.shape[1], capacity, key_states.shape[3])
        self.values = value_states.new_zeros(slots, value_states.shape[1], capacity, value_states.shape[3])
        self.is_initialized = True

    def put(self, slot: int, key_states: Tensor, value_states: Tensor) -> None:
        """Fill a slot with what a prompt left behind: [1, heads, tokens, width] each."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys[slot, :, : key_states.shape[2]] = key_states[0]
        self.values[slot, :, : value_states.shape[2]] = value_states[0]

    def move(self, source: int, slot: int, tokens: int) -> None:
        """Copy the first tokens of one slot to another."""
        self.keys[slot, :, :tokens] = self.keys[source, :, :tokens]
        self.values[slot, :, :tokens] = self.values[source, :, :tokens]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add one token to each of the first slots; what is returned reaches to the longest of them."""
        rows = len(key_states)
        at = self.lengths.tokens[:rows]
        which = torch.arange(rows, device=at.device)
        self.keys[which, :, at] = key_states[:, :, 0]
        self.values[which, :, at] = value_states[:, :, 0]
        reach = self.lengths.reach(rows)
        return self.keys[:rows, :, :reach], self.values[:rows, :, :reach]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Not asked: the mask is given."""
        return self.lengths.capacity, 0

    def get_seq_length(self) -> int:
        """Not asked: positions are given."""
        return 0

    def get_max_length(self) -> int:
        """Tokens that fit a slot."""
        return self.lengths.capacity


class SlotCache(Cache):
    """`slots` sequences of at most `capacity` tokens; the first ones are in use.

    A position counts only below its slot's length, so nothing is erased when a slot is used again.
    """

    def __init__(self, slots: int, capacity: int, device: torch.device) -> None:
        super().__init__(layers=[])
        self.slots = slots
        self._lengths = SlotLengths(slots, capacity, device)

    def begin(self, model: PreTrainedModel, slot: int, prompt: Sequence[int]) -> Tensor:
        """Read a prompt into a slot; returns the logits after it, [1, vocabulary]."""
        cache = DynamicCache(config=model.config.get_text_config())
        inputs = torch.tensor([prompt], device=model.device)
        arguments = {cache_argument(model): cache, "use_cache": True, "logits_to_keep": 1}
        logits = model(input_ids=inputs, **arguments).logits[:, -1]
        while len(self.layers) < len(cache.layers):
            self.layers.append(SlotLayer(self._lengths))
        for mine, read in zip(self.layers, cache.layers, strict=True):
            mine.put(slot, read.keys, read.values)
        self._lengths.tokens[slot] = len(prompt)
        return logits

    def extend(self, model: PreTrainedModel, tokens: Sequence[int]) -> Tensor:
        """One token for each slot in use; returns the logits after it, [rows, vocabulary]."""
        rows = len(tokens)
        positions = self._lengths.tokens[:rows, None].clone()
        seen = torch.arange(self._lengths.reach(rows), device=positions.device) <= positions
        mask = torch.zeros_like(seen, dtype=model.dtype).masked_fill(~seen, -torch.inf)
        logits = model(
            input_ids=torch.tensor(tokens, device=model.device)[:, None], position_ids=positions,
            attention_mask=mask[:, None, None], use_cache=True, **{cache_argument(model): self},
        ).logits[:, -1]  # fmt: skip
        self._lengths.tokens[:rows] += 1
        return logits

    def free(self, slot: int, last: int) -> None:
        """Give a slot up: the `last` one in use takes its place."""
        length = int(self._lengths.tokens[last])
        if slot != last:
            for layer in self.layers:
                layer.move(last, slot, length)
        self._lengths.tokens[slot] = length


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Grouped-query attention that never repeats keys and values; without a mask it is causal."""
    out = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, scale=scaling, enable_gqa=True,
        is_causal=attention_mask is None and query.shape[2] > 1,
    )  # fmt: skip
    return out.transpose(1, 2), None


AttentionInterface.register(ATTENTION, _attend)


@contextlib.contextmanager
def slot_attention(model: PreTrainedModel) -> Iterator[None]:
    """The model attends through the slots while inside."""
    before = model.config._attn_implementation
    model.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
