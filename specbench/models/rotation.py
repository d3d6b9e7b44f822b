"""Models whose rotary frequencies depend on how long a text has become, so that a cache holds keys of the past.

LongRoPE (Phi-3, Phi-3.5, Phi-4-mini, PhiMoE) has one set of frequencies for texts of up to
`original_max_position_embeddings` tokens and another for longer ones; `model.generate` drops the cache where a
text passes that length. Dynamic NTK scaling has new frequencies at every length beyond
`max_position_embeddings`, and `model.generate` keeps the cache all the same. In transformers these two kinds
are all (`dynamic_rope_update`); temperatures of attention that grow, as in Llama 4 and Ministral 3, depend on
a token's own position, which no later token changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

LONGROPE = ("longrope", "su")  # as Phi-3's first configurations named it


@dataclass(frozen=True)
class Switch:
    """A length at which frequencies change.

    Args:
        kind: of the scaling, by its name in the configuration.
        length: longer texts are read with other frequencies.
        is_steady: whether these are then the same for all lengths.
    """

    kind: str
    length: int
    is_steady: bool

    def is_crossed(self, shortest: int, longest: int) -> bool:
        """Whether a text that grows from `shortest` to `longest` tokens is read with different frequencies."""
        return longest > self.length and not (self.is_steady and shortest > self.length)


def switch_of(config: PretrainedConfig) -> Switch | None:
    """Where the frequencies of a model change with the length of a text; `None` where they do not."""
    return min(_switches(config.get_text_config(decoder=True)), key=lambda one: one.length, default=None)


def reads_by_length(config: PretrainedConfig) -> bool:
    """Whether texts that fit the context have different frequencies, by their length."""
    switch = switch_of(config)
    return switch is not None and switch.is_steady  # else they change beyond the context


def _switches(text: PretrainedConfig) -> Iterator[Switch]:
    context = getattr(text, "max_position_embeddings", None)
    for scaling in _scalings(text):
        kind = scaling.get("rope_type") or scaling.get("type") or ""
        if kind in LONGROPE:
            own = getattr(text, "original_max_position_embeddings", None)
            length = own or scaling.get("original_max_position_embeddings") or context
            steady = True
        elif "dynamic" in kind:
            length, steady = context, False
        else:
            continue
        if length is not None:
            yield Switch(kind, length, steady)


def _scalings(text: PretrainedConfig) -> Iterator[dict]:
    """The configuration's rotary parameters, of all kinds of layers."""
    for name in ("rope_parameters", "rope_scaling"):
        found = getattr(text, name, None)
        if isinstance(found, dict):
            yield found
            yield from (part for part in found.values() if isinstance(part, dict))
