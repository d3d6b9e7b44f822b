"""What kind of model a configuration describes: which class reads it, or why specbench cannot run it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specbench.errors import ModelError, first_line
from specbench.models import storage
from specbench.models.library import quiet_transformers

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

BIDIRECTIONAL = "a bidirectional model"
# Kinds that no field of a configuration tells.
OTHER_KINDS = {
    "diffusion_gemma": "a diffusion model",
    "paligemma": "a prefix model, which reads its prompt in both directions",
    "xlnet": BIDIRECTIONAL,
}
PROBE = (1, 2, 3)
# A row that cannot see the token behind it changes by rounding only, whatever that token is.
ROUNDING = 0.05
WANTED = "choose a model that writes text from left to right, such as Llama, Qwen or Gemma"


def text_model(config: PretrainedConfig) -> PretrainedConfig:
    """The part of an omni model that reads and writes text; any other configuration as it is."""
    return getattr(config, "thinker_config", None) or config


def layer_configs(config: PretrainedConfig) -> list[PretrainedConfig]:
    """The configuration of every layer of the text model.

    transformers refuses to read a setting of the whole model where layers differ in it, such as Gemma 4's
    `head_dim`; versions before 5.24 know no such settings.
    """
    text = config.get_text_config(decoder=True)
    return list(getattr(text, "per_layer_config", None) or [text] * text.num_hidden_layers)


def model_class(config: PretrainedConfig) -> Any:
    """What reads the weights of a configuration: a causal class, else a multimodal one, for its text path."""
    from transformers import AutoModelForCausalLM, AutoModelForMultimodalLM

    is_multimodal = type(config) in AutoModelForMultimodalLM._model_mapping
    if is_multimodal and type(config) not in AutoModelForCausalLM._model_mapping:
        return AutoModelForMultimodalLM
    return AutoModelForCausalLM


def demand_decoder(config: PretrainedConfig, folder: Path) -> None:
    """Refuse what is no decoder of text, before anything is read.

    Raises:
        SpecbenchError: saying what it is.
    """
    kind = _other_kind(config)
    if kind:
        raise ModelError(
            f"model {folder} ({config.model_type}) is {kind}, and specbench runs decoder-only models", WANTED
        )


def demand_causal(model: PreTrainedModel, folder: Path) -> None:
    """Refuse a model whose tokens see those behind them: drafts in a verification would change one another.

    Raises:
        SpecbenchError: it reads in both directions.
    """
    import torch

    device: Any = model.get_input_embeddings().weight.device
    if device.type == "meta":  # weights on disk have no device of their own
        return
    arguments = {}
    if "position_ids" in inspect.signature(model.forward).parameters:
        arguments["position_ids"] = torch.arange(len(PROBE) + 1, device=device).unsqueeze(0)
    try:
        with torch.inference_mode():
            rows = [
                model(input_ids=torch.tensor([[*PROBE, last]], device=device), **arguments).logits[0, :-1]
                for last in (0, 4)
            ]
    except Exception:  # the engine's own first pass says what is wrong
        return
    first, second = (row.double() for row in rows)
    known = first.isfinite() & second.isfinite()
    if known.any() and (first - second)[known].abs().max() > ROUNDING * first[known].abs().max():
        raise ModelError(
            f"model {folder} ({model.config.model_type}) reads its text in both directions: a token changes "
            "the logits before it",
            WANTED,
        )


def _other_kind(config: PretrainedConfig) -> str | None:
    """What a model is that is no decoder of text; `None` for those that are."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForMultimodalLM

    if config.is_encoder_decoder or config.get_text_config().is_encoder_decoder:
        return "an encoder-decoder model"
    if config.model_type in OTHER_KINDS:
        return OTHER_KINDS[config.model_type]
    writes = getattr(config, "is_decoder", False) or getattr(config, "causal", False)  # `causal` is XLM's
    if type(config) in AutoModelForMaskedLM._model_mapping and not writes:
        return BIDIRECTIONAL
    has_own_code = hasattr(config, "auto_map")
    known = (AutoModelForCausalLM._model_mapping, AutoModelForMultimodalLM._model_mapping)
    if not has_own_code and not any(type(config) in mapping for mapping in known):
        return "no model that writes text"
    return None


def meta_model(config: PretrainedConfig, dtype: str) -> PreTrainedModel:
    """The model's shape without its weights, for counting.

    Raises:
        SpecbenchError: a part of it (such as a vision tower) needs a package that is not installed.
    """
    import torch

    # Whoever read the configuration has refused code beside it that the profile does not allow.
    own_code = {"trust_remote_code": True} if hasattr(config, "auto_map") else {}
    try:
        with torch.device("meta"), quiet_transformers():
            cls = model_class(config)
            return cls.from_config(config, dtype=getattr(torch, dtype), **own_code)
    except ImportError as error:
        raise ModelError(
            f"the {config.model_type} model cannot be built: {first_line(error)}",
            storage.missing_package(error) or "install that package",
        ) from error
