"""From a folder to a model in memory: configuration, tokenizer, weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from specbench.errors import ModelError, first_line, is_out_of_memory
from specbench.models import (
    architecture,
    cutting,
    embedded,
    feature_fed,
    files,
    gguf_files,
    gguf_loading,
    splitting,
    storage,
)
from specbench.models.devices import memory_limits, resolve_device
from specbench.models.library import quiet_transformers
from specbench.profile import CloudSpec, ModelSpec

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to decode: evaluation mode, no gradients, hub sampling defaults removed.

    `device` is where token ids go in; `quantization` is how the matrices are held, if not in `dtype`.
    """

    model: PreTrainedModel
    folder: Path
    device: torch.device
    dtype: torch.dtype
    quantization: str | None = None
    trust_remote_code: bool = False


def make_known(folder: Path) -> None:
    """Have transformers know the kind of model in a folder, where it is our own."""
    if feature_fed.lies_in(folder):
        import specbench.models.eagle  # noqa: F401 - it registers itself


def load_config(folder: Path, spec: ModelSpec) -> PretrainedConfig:
    """The configuration of the text model, cut to `spec.layers`.

    Raises:
        SpecbenchError: unknown architecture, no decoder of text, or layers that it cannot be cut to.
    """
    from transformers import AutoConfig

    files.check(folder, spec)
    if gguf_files.is_gguf(folder):
        config = gguf_loading.load_config(gguf_loading.whole(folder, embedded.cache_folder()))
    else:
        make_known(folder)
        try:
            with quiet_transformers():
                config = AutoConfig.from_pretrained(folder, trust_remote_code=spec.trust_remote_code)
        except Exception as error:  # configurations, and code beside them, raise whatever they like
            raise ModelError(
                f"model {folder}: {first_line(error)}",
                storage.missing_package(error) or "use a text model that this version of transformers supports",
            ) from error
    config = architecture.text_model(config)
    architecture.demand_decoder(config, folder)
    if spec.layers is not None:
        cutting.cut(config, spec.layers, folder)
    return config


def load_tokenizer(folder: Path, spec: ModelSpec) -> PreTrainedTokenizerBase:
    """The tokenizer beside a model, or in its GGUF file.

    Raises:
        SpecbenchError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    files.check(folder, spec)
    if gguf_files.is_gguf(folder):
        return gguf_loading.load_tokenizer(gguf_loading.whole(folder, embedded.cache_folder()))
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=spec.trust_remote_code)
    except Exception as error:  # the tokenizers library raises bare Exception on a damaged file
        raise ModelError(
            f"the tokenizer of {folder} cannot be read: {first_line(error)}",
            storage.missing_package(error) or "copy or fetch the model again",
        ) from error


def load_model(folder: Path, spec: ModelSpec) -> LoadedModel:
    """Read the weights of a checked folder into memory, in the profile's dtype.

    Raises:
        SpecbenchError: weights that are missing, damaged, pickled, or do not belong to the config.
    """
    import torch
    from transformers import GenerationConfig

    files.weight_files(folder)
    config = load_config(folder, spec)
    dtype = getattr(torch, spec.dtype)
    device_map = spec.device_map if isinstance(spec, CloudSpec) else None
    placement: dict = {"device_map": device_map} if device_map else {}
    if isinstance(spec, CloudSpec) and device_map:
        placement["max_memory"] = memory_limits(spec.max_memory)
        placement["offload_folder"] = spec.offload_folder
    ranks = spec.ranks if isinstance(spec, CloudSpec) else 1
    if ranks > 1:
        placement = splitting.split_arguments(ranks)
    where, quiet = folder, quiet_transformers
    if gguf_files.is_gguf(folder):
        if ranks > 1:
            raise ModelError(
                f"model {folder} is a GGUF file, which cannot be split over {ranks} ranks",
                "leave out cloud.parallel, or name a folder with safetensors",
            )
        path = gguf_loading.whole(folder, embedded.cache_folder())
        where, placement = path.parent, placement | gguf_loading.loader_arguments(path)
        quiet = gguf_loading.quiet
    try:
        with quiet():
            model, report = architecture.model_class(config).from_pretrained(
                where,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=spec.trust_remote_code,
                output_loading_info=True,
                generation_config=GenerationConfig(),  # else it is read from the folder
                **placement,
            )
    except Exception as error:  # models and their quantisers raise whatever they like
        if is_out_of_memory(error):  # the runner and the command line know what to say of it
            raise
        raise ModelError(
            f"model {folder} cannot be loaded: {first_line(error)}",
            storage.missing_package(error, folder) or "copy or fetch the model again, or name another one",
        ) from error
    if report["missing_keys"]:
        raise ModelError(
            f"model {folder} lacks the tensor {sorted(report['missing_keys'])[0]} "
            f"({len(report['missing_keys'])} missing)",
            "it would be filled with random numbers; fetch the model again",
        )
    if not device_map and ranks == 1:
        model.to(resolve_device(spec.device))
    model.eval().requires_grad_(False)
    # Hub defaults for sampling and penalties would apply to model.generate and to nothing else.
    model.generation_config = GenerationConfig()
    if ranks == 1:  # ranks compute together, and this would be each one's own pass
        architecture.demand_causal(model, folder)
    return LoadedModel(model, folder, _input_device(model), dtype, trust_remote_code=spec.trust_remote_code)


def _input_device(model: PreTrainedModel) -> torch.device:
    """Where token ids go in; weights offloaded to disk have no device of their own."""
    import torch

    device: Any = model.get_input_embeddings().weight.device
    if device.type != "meta":
        return device
    devices = [place for place in cast(dict, model.hf_device_map).values() if place not in ("cpu", "disk")]
    return torch.device(devices[0] if devices else "cpu")
