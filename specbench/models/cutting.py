"""A configuration for the first layers of a model alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from specbench.errors import ModelError, SpecbenchError
from specbench.models.architecture import meta_model

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# Lists with an entry for each layer, besides those that have `layer` in their name.
PER_LAYER = ("activation_sparsity_pattern", "indexer_types", "intermediate_size")


def cut(config: PretrainedConfig, layers: int, folder: Path) -> None:
    """Make a configuration that of its first `layers` layers, in place.

    Raises:
        SpecbenchError: it has fewer, or its architecture cannot be cut.
    """
    text = config.get_text_config()
    whole = getattr(text, "num_hidden_layers", None)
    if not isinstance(whole, int):
        raise _cannot(folder, config, layers, "its configuration does not count them")
    if layers > whole:
        raise ModelError(f"model {folder} has {whole} layers, fewer than layers: {layers}")
    if layers == whole:
        return
    if getattr(text, "hidden_size_per_layer_input", None):
        raise _cannot(folder, config, layers, "its embeddings have a part for each layer, in one tensor")
    for name, value in list(vars(text).items()):  # what is computed from the number of layers is not among them
        if isinstance(value, (list, tuple)) and len(value) == whole and ("layer" in name or name in PER_LAYER):
            setattr(text, name, value[:layers])
    shared = getattr(text, "num_kv_shared_layers", None)
    if shared:  # the last ones use keys and values of earlier ones
        text.num_kv_shared_layers = max(0, shared - (whole - layers))
    text.num_hidden_layers = layers
    if text.num_hidden_layers != layers:
        raise _cannot(folder, config, layers, "it counts them otherwise")
    _demand_buildable(config, layers, folder)


def _demand_buildable(config: PretrainedConfig, layers: int, folder: Path) -> None:
    try:
        meta_model(config, "float32").tie_weights()
    except SpecbenchError:
        raise
    except Exception as error:  # some layers of some architectures need others
        raise _cannot(folder, config, layers, "transformers cannot build so few of them") from error


def _cannot(folder: Path, config: PretrainedConfig, layers: int, reason: str) -> SpecbenchError:
    return ModelError(
        f"model {folder} ({config.model_type}) cannot be cut to layers: {layers}, for {reason}",
        "leave out layers, or choose a draft that is small as it is",
    )
