"""How positions bound and change what a model reads: its context, and rotary frequencies that depend on length.

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

# Kinds of scaling that stretch the original length by `factor`. With the others (llama3, longrope),
# `max_position_embeddings` is the stretched length already.
STRETCHING = ("yarn", "linear", "dynamic")
LONGROPE = ("longrope", "su")  # as Phi-3's first configurations named it


def context_length(config: PretrainedConfig) -> int | None:
    """Tokens that a model was made for, or `None` when its configuration does not say.

    `max_position_embeddings` may be the length before or after the scaling of positions (`rope_scaling`).
    As in vLLM, the context is the original length times the factor where the scaling stretches it, and never
    less than `max_position_embeddings`. Where only some layers are scaled (Gemma 3), it is taken as it is.
    """
    text = config.get_text_config()
    length = getattr(text, "max_position_embeddings", None)
    if not isinstance(length, int) or length < 1:  # XLNet says -1
        return None
    return max(length, min((_stretched(each, length) for each in _scalings(text)), default=length))


def varying_positions(config: PretrainedConfig, adds_alibi: bool = False) -> str | None:
    """Why one pass does not hold for every length of the text; `None` where positions are the same for all.

    Args:
        adds_alibi: whether attention itself adds ALiBi, for any length, instead of the model's own code.
    """
    text = config.get_text_config()
    if not adds_alibi and getattr(text, "alibi", False):
        return "its attention adds ALiBi, which it makes anew for each length of the text"
    if any(_kind(each) == "dynamic" for each in _scalings(text)):
        return "its rotary positions change with the length of the text (dynamic NTK)"
    return None


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
        kind = _kind(scaling)
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


def _scalings(text: PretrainedConfig) -> list[dict]:
    """The settings of rotary positions: one for all layers, or one for each kind of layer."""
    found: list[dict] = []
    for name in ("rope_parameters", "rope_scaling"):
        if isinstance(settings := getattr(text, name, None), dict):
            found += [each for each in settings.values() if isinstance(each, dict)] or [settings]
    return found


def _kind(settings: dict) -> str:
    return settings.get("rope_type") or settings.get("type") or ""


def _stretched(settings: dict, length: int) -> int:
    factor = settings.get("factor")
    if _kind(settings) not in STRETCHING or not factor:
        return length
    return int((settings.get("original_max_position_embeddings") or length) * factor)
