"""Several sequences, or trees, in one eager pass: tokens side by side, each attending over its own cache.

Linear layers see one long row of tokens and read every weight once for all. Nothing is padded, since the caches
stay apart; a sequence's attention is the call that it would be alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache, DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION = "specbench_packed"


class _Layer(DynamicLayer):
    """One layer of all caches: keys and values of a pass go to the sequence that they belong to."""

    def __init__(
        self, parts: Sequence[DynamicLayer], widths: Sequence[int], masks: Sequence[torch.Tensor | None]
    ) -> None:
        super().__init__()
        self.parts, self.widths, self.masks = parts, widths, masks

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Hand them out; what comes back is not looked at."""
        split = key_states.split(self.widths, 2), value_states.split(self.widths, 2)
        for part, keys, values in zip(self.parts, *split, strict=True):
            part.update(keys, values)
        return key_states, value_states


_pass = threading.local()
"""Of this thread: `caches`, while it makes a pass. Edges of one process may read drafted trees at once."""


@contextmanager
def packing(
    model: PreTrainedModel, caches: Sequence[Cache | None], seen: Sequence[Sequence[int]]
) -> Iterator[Cache]:
    """Let the model's attention keep the sequences of a pass apart; yields the cache to pass along.

    Args:
        seen: what each cache's tokens see, which follow each other in the pass; see `trees.places`.

    Raises:
        ValueError: the model's attention cannot be exchanged, or sees a window only.
    """
    config = model.config.get_text_config(decoder=True)
    before = config._attn_implementation
    known = [cache for cache in caches if cache is not None]
    if before != "sdpa" or not getattr(model, "_supports_attention_backend", False):
        raise ValueError(f"the attention of a {type(model).__name__} cannot be exchanged ({before})")
    if len(known) < len(caches):
        raise ValueError(f"a {type(model).__name__} makes a cache of its own")
    layers = [_full(cache) for cache in known]
    lengths = [[layer.get_seq_length() for layer in own] for own in layers]
    masks = [_mask(part, max(read), model.device) for part, read in zip(seen, lengths, strict=True)]
    try:
        config._attn_implementation = ATTENTION
        _pass.caches = Cache(
            layers=[_Layer(parts, [len(part) for part in seen], masks) for parts in zip(*layers, strict=True)]
        )
        yield _pass.caches
    except BaseException:
        for own, read in zip(layers, lengths, strict=True):
            for layer, length in zip(own, read, strict=True):
                layer.crop(length - layer.get_seq_length())
        raise
    finally:
        del _pass.caches
        config._attn_implementation = before


def _full(cache: Cache) -> list[DynamicLayer]:
    """The layers of a cache that keep every token.

    Raises:
        ValueError: one does not.
    """
    if strange := next((layer for layer in cache.layers if type(layer) is not DynamicLayer), None):
        raise ValueError(f"it has a {type(strange).__name__}, and only full attention can be exchanged")
    return [layer for layer in cache.layers if type(layer) is DynamicLayer]


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Transformers' attention interface: its own attention, sequence by sequence."""
    if attention_mask is not None or kwargs.get("sliding_window") is not None:
        raise ValueError("its attention uses a mask of its own")
    layer = _pass.caches.layers[module.layer_idx]
    found = []
    for part, mask, own in zip(layer.parts, layer.masks, query.split(layer.widths, 2), strict=True):
        mask = None if mask is None else mask.to(query.device)
        found.append(sdpa_attention_forward(module, own, part.keys, part.values, mask, **kwargs)[0])
    return torch.cat(found, dim=1), None


def _mask(seen: Sequence[int], length: int, device: torch.device) -> torch.Tensor | None:
    """Which keys tokens behind `length` others see; `None` where that is all."""
    width = len(seen)
    if seen == [0]:
        return None
    mask = torch.ones(width, length + width, dtype=torch.bool, device=device).tril(length)
    if seen[0]:
        size = (seen[-1] % (1 << 64)).bit_length()  # of a tree, which may have grown in several passes
        bits = torch.tensor(seen, device=device)[:, None] >> torch.arange(size, device=device)
        mask[:, -size:] = bits & 1 > 0
    return mask[None, None]


AttentionInterface.register(ATTENTION, _attention)
