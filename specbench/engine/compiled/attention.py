"""What a model's attention asks for, while a kernel of ours stands in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import AttentionInterface, AttentionMaskInterface

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

FULL = "specbench"
"""Attention for which transformers makes no masks: every token sees all that is before it."""
PARTIAL = "specbench_partial"
"""Attention whose masks are `Limits`."""
# What some architectures hand to their attention, and our kernels do not know.
UNKNOWN = ("position_bias", "head_mask", "sinks", "bias", "indices", "block_indices")


@dataclass(frozen=True)
class Limits:
    """Which of the tokens before it a token sees, in place of a mask.

    Args:
        window: the newest ones, its own included; 0 is all.
        chunk: those of its own piece of the text; 0 is all.
    """

    window: int = 0
    chunk: int = 0


@dataclass(frozen=True)
class Alibi:
    """What each head adds to its scores for the distance of a key.

    Args:
        slopes: float32, shape (heads,).
        is_rounded: positions and products are rounded to bfloat16, and scaled as scores are.
    """

    slopes: torch.Tensor
    is_rounded: bool = False


@dataclass(frozen=True)
class Asked:
    """What a layer's attention does beside being causal.

    Args:
        scale: what scores are multiplied by.
        cap: what scores are squashed to less than; 0 is nothing.
        sinks: one for each head, or none at all.
        alibi: what heads add for the distance of a key, if anything.
    """

    scale: float
    limits: Limits = Limits()
    cap: float = 0.0
    sinks: tuple[torch.Tensor, ...] = ()
    alibi: Alibi | None = None

    @property
    def extras(self) -> tuple:
        """The last arguments of `specbench::attend_within`; empty where `specbench::attend` is enough."""
        limits, alibi = self.limits, self.alibi
        if not (limits.window or limits.chunk or self.cap or self.sinks or alibi):
            return ()
        slopes, rounded = ([alibi.slopes], int(alibi.is_rounded)) if alibi else ([], 0)
        return limits.window, limits.chunk, self.cap, list(self.sinks), slopes, rounded


Attend = Callable[[tuple[torch.Tensor, ...], Asked], torch.Tensor]
"""`attend((query, key, value), asked)`, which knows its cache; returns shape (1, width, heads, size)."""


@contextmanager
def attending(model: PreTrainedModel, attend: Attend, has_limits: bool) -> Iterator[None]:
    """Have a model attend by `attend`.

    Args:
        has_limits: whether some layers do not see all; other models get no masks.
    """

    def attention(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: Limits | None,
        scaling: float | None = None,
        **kwargs: object,
    ) -> tuple[torch.Tensor, None]:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        if not has_limits and kwargs.get("sliding_window") is not None:
            raise NotImplementedError("its attention uses sliding_window, and its cache does not")
        return attend((query, key, value), _asked(scale, attention_mask, kwargs)), None

    before, name = model.config._attn_implementation, PARTIAL if has_limits else FULL
    AttentionInterface.register(name, attention)
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _asked(scale: float, mask: object, extras: Mapping[str, object]) -> Asked:
    """What the attention asks of our kernels.

    Raises:
        NotImplementedError: it uses a mask, or extras that they do not know.
    """
    strange = [name for name in UNKNOWN if extras.get(name) is not None]
    is_causal = isinstance(mask, Limits | None) and extras.get("is_causal", True) in (True, None)
    if not is_causal or strange:
        raise NotImplementedError(f"its attention uses {', '.join(strange) or 'a mask of its own'}")
    sinks = extras.get("s_aux")
    cap = extras.get("softcap")
    return Asked(
        scale,
        mask if isinstance(mask, Limits) else Limits(),
        float(cap) if isinstance(cap, int | float) else 0.0,
        (sinks,) if isinstance(sinks, torch.Tensor) else (),
    )


def _limits(
    *,
    config: PretrainedConfig,
    local_size: int | None = None,
    use_vmap: bool = False,
    attention_mask: torch.Tensor | None = None,
    **others: object,
) -> Limits | None:
    """Transformers' interface of masks: what it would make a mask of, and `None` for a causal one.

    Raises:
        NotImplementedError: it is neither a window nor a piece of the text.
    """
    if use_vmap or attention_mask is not None or "allow_is_bidirectional_skip" in others:
        raise NotImplementedError("its attention uses a mask of its own")
    if local_size is None:
        return None
    if local_size != getattr(config, "attention_chunk_size", None):
        return Limits(window=local_size)
    if local_size == getattr(config, "sliding_window", None):
        raise NotImplementedError("its windows and its chunks have the same size")
    return Limits(chunk=local_size)


AttentionMaskInterface.register(PARTIAL, _limits)
