"""What a configuration says of single layers, which need not be alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def layer_configs(config: PretrainedConfig) -> list[PretrainedConfig]:
    """The configuration of every layer of the text model.

    transformers refuses to read a setting of the whole model where layers differ in it, such as Gemma 4's
    `head_dim`; versions before 5.24 know no such settings.
    """
    text = config.get_text_config(decoder=True)
    return list(getattr(text, "per_layer_config", None) or [text] * text.num_hidden_layers)
