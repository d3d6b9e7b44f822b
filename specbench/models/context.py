"""How many tokens a model can read, scaled rotary positions included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# Kinds of scaling that stretch the original length by `factor`. With the others (llama3, longrope),
# `max_position_embeddings` is the stretched length already.
STRETCHING = ("yarn", "linear", "dynamic")


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
    return max(length, min(_stretched(settings, length) for settings in _scalings(text)))


def varying_positions(config: PretrainedConfig) -> str | None:
    """Why one pass does not hold for every length of the text; `None` where positions are the same for all."""
    text = config.get_text_config()
    if getattr(text, "alibi", False):
        return "its attention adds ALiBi, which it makes anew for each length of the text"
    if any(settings.get("rope_type") == "dynamic" for settings in _scalings(text)):
        return "its rotary positions change with the length of the text (dynamic NTK)"
    return None


def _scalings(text: PretrainedConfig) -> Iterator[dict]:
    """The settings of rotary positions: one for all layers, or one for each kind of layer."""
    settings = getattr(text, "rope_parameters", None) or {}
    by_kind = [value for value in settings.values() if isinstance(value, dict)]
    yield from by_kind or [settings]


def _stretched(settings: dict, length: int) -> int:
    factor = settings.get("factor")
    if settings.get("rope_type") not in STRETCHING or not factor:
        return length
    return int((settings.get("original_max_position_embeddings") or length) * factor)
