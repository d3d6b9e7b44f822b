"""A key-value cache of slots, so that texts of any length are written side by side and replaced one by one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from specbench.engine import kernels
from specbench.engine.hidden_states import collecting
from specbench.errors import SpecbenchError
from specbench.models.library import demand_cache_argument

logger = logging.getLogger(__name__)

ATTENTION = "specbench_slots"
ROUNDED_TO = 64  # attention by torch reads the cache up to a multiple of this


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

    keys: Tensor  # there from the first prompt on
    values: Tensor

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

    def first(self, slot: int, tokens: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a slot's first tokens, as `put` takes them."""
        return self.keys[slot : slot + 1, :, :tokens], self.values[slot : slot + 1, :, :tokens]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add one token to each of the first slots; returns all that they hold."""
        rows = len(key_states)
        at = self.lengths.tokens[:rows]
        which = torch.arange(rows, device=at.device)
        self.keys[which, :, at] = key_states[:, :, 0]
        self.values[which, :, at] = value_states[:, :, 0]
        return self.keys, self.values

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

    Args:
        read: layers of the model whose hidden states are kept, as of `Features`.
    """

    def __init__(self, slots: int, capacity: int, model: PreTrainedModel, read: Sequence[int] = ()) -> None:
        super().__init__(layers=[])
        self.slots = slots
        self._read, device = read, model.device
        size = len(read) * model.config.get_text_config().hidden_size
        self._states = torch.empty(slots, capacity, size, dtype=model.dtype, device=device)
        self.lengths = SlotLengths(slots, capacity, device)
        self._held: list[list[int]] = [[] for _ in range(slots)]
        self._argument = demand_cache_argument(model, model.name_or_path)

    @property
    def _slots(self) -> list[SlotLayer]:
        layers: list[Any] = self.layers  # to transformers, of any kind
        return layers

    def begin(self, model: PreTrainedModel, slot: int, prompt: Sequence[int]) -> Tensor:
        """Read a prompt into a slot; returns the logits after it, [1, vocabulary].

        What the slot holds of it already, such as the conversation so far, is not read again.
        """
        cache, known = DynamicCache(config=model.config.get_text_config()), 0
        for held, token in zip(self._held[slot], prompt[:-1], strict=False):
            if held != token:
                break
            known += 1
        if known:
            for number, layer in enumerate(self._slots):
                cache.update(*layer.first(slot, known), number)
        inputs = torch.tensor([prompt[known:]], device=model.device)
        arguments = {self._argument: cache, "use_cache": True, "logits_to_keep": 1}
        with collecting(model, self._read) as found:
            logits = model(input_ids=inputs, **arguments).logits[:, -1]
        if self._read:
            self._states[slot, known : len(prompt)] = found.every(self._read)[0].flatten(1)
        while len(self.layers) < len(cache.layers):
            self.layers.append(SlotLayer(self.lengths))
        layers: list[Any] = cache.layers
        for mine, read in zip(self._slots, layers, strict=True):
            mine.put(slot, read.keys, read.values)
        self._held[slot] = list(prompt)
        self.lengths.tokens[slot] = len(prompt)
        return logits

    def extend(self, model: PreTrainedModel, tokens: Sequence[int]) -> Tensor:
        """One token for each slot in use; returns the logits after it, [rows, vocabulary]."""
        rows = len(tokens)
        positions = self.lengths.tokens[:rows, None].clone()
        seen = torch.arange(self.lengths.reach(rows), device=positions.device) <= positions
        mask = torch.zeros_like(seen, dtype=model.dtype).masked_fill(~seen, -torch.inf)
        with collecting(model, self._read) as found:
            logits = model(
                input_ids=torch.tensor(tokens, device=model.device)[:, None], position_ids=positions,
                attention_mask=mask[:, None, None], use_cache=True, **{self._argument: self},
            ).logits[:, -1]  # fmt: skip
        if self._read:
            which = torch.arange(rows, device=positions.device)
            self._states[which, positions[:, 0]] = found.every(self._read)[:, 0].flatten(1)
        self.lengths.tokens[:rows] += 1
        for held, token in zip(self._held, tokens, strict=False):
            held.append(token)
        return logits

    def states(self, slot: int) -> Tensor:
        """The hidden states behind all tokens that a slot holds, shape (tokens, layers * size)."""
        return self._states[slot, : len(self._held[slot])].clone()

    def free(self, slot: int, last: int) -> None:
        """Give a slot up: the `last` one in use takes its place."""
        length = int(self.lengths.tokens[last])
        if slot != last:
            for layer in self._slots:
                layer.put(slot, *layer.first(last, length))
            self._states[slot, :length] = self._states[last, :length]
        self._held[slot] = list(self._held[last])
        self.lengths.tokens[slot] = length


Attend = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]


def _kernel(model: PreTrainedModel) -> Attend | None:
    """Our own attention of one token of each slot, which reads no slot beyond its length, where it fits."""
    config = model.config.get_text_config()
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if model.device.type != "cpu" or size % 16 or model.dtype not in (torch.bfloat16, torch.float32):
        return None
    try:
        return kernels.load().attend_slots
    except SpecbenchError as error:
        logger.info("text: written with torch's attention, which takes longer: %s", error.message)
        return None


@contextlib.contextmanager
def slot_attention(model: PreTrainedModel, cache: SlotCache) -> Iterator[None]:
    """The model attends through the slots while inside."""
    kernel = _kernel(model)

    def attend(
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """Grouped-query attention that never repeats keys and values; without a mask, of a prompt's end."""
        rows, _, width, size = query.shape
        scale = size**-0.5 if scaling is None else scaling
        if attention_mask is None:
            behind = key.shape[2] - width
            mask = None
            if behind:
                mask = torch.ones(width, key.shape[2], dtype=torch.bool, device=key.device).tril(behind)
            out = scaled_dot_product_attention(
                query, key, value, attn_mask=mask, scale=scale, enable_gqa=True, is_causal=mask is None
            )
            return out.transpose(1, 2), None
        if kernel:
            lengths = cache.lengths.tokens[:rows] + 1
            return kernel(query[:, :, 0].contiguous(), key, value, lengths, scale)[:, None], None
        reach = attention_mask.shape[-1]
        # Heads of a group are rows of one product.
        groups = query.reshape(rows, key.shape[1], -1, size)
        out = scaled_dot_product_attention(
            groups, key[:rows, :, :reach], value[:rows, :, :reach], attn_mask=attention_mask, scale=scale
        )
        return out.reshape(rows, 1, -1, size), None

    before = model.config._attn_implementation
    AttentionInterface.register(ATTENTION, attend)
    model.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
