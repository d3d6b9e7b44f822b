"""From a folder to a model in memory: configuration, tokenizer, weights."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from specbench.config import CloudSpec, ModelSpec
from specbench.errors import ModelError, first_line, is_out_of_memory
from specbench.models import architecture, cutting, files, splitting, storage
from specbench.models.placement import memory_limits

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


def cache_argument(model: PreTrainedModel) -> str | None:
    """What the model's forward calls its cache: `cache` from transformers 5.24 on, `past_key_values` before.

    Returns:
        `None` for a model that takes none.
    """
    for kind in type(model).__mro__:  # code beside the weights may hand on whatever it is given
        takes = inspect.signature(kind.forward).parameters if "forward" in vars(kind) else ()
        for name in ("cache", "past_key_values"):
            if name in takes:
                return name
    return None


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' warnings and progress bars off the terminal while loading."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def resolve_device(name: str) -> str:
    """`auto` is the first CUDA device where there is one, else the CPU.

    Raises:
        SpecbenchError: a CUDA device that this machine does not have.
    """
    import torch

    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        index = int(name.partition(":")[2] or 0)
        if index >= torch.cuda.device_count():
            raise ModelError(
                f"device {name} is not on this machine ({torch.cuda.device_count()} CUDA devices)",
                "use device: auto or device: cpu",
            )
    return name


def load_config(folder: Path, spec: ModelSpec) -> PretrainedConfig:
    """The configuration of the text model, cut to `spec.layers`.

    Raises:
        SpecbenchError: unknown architecture, no decoder of text, or layers that it cannot be cut to.
    """
    from transformers import AutoConfig

    files.check(folder, spec)
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=spec.trust_remote_code)
    except Exception as error:  # configurations, and code beside them, raise whatever they like
        raise ModelError(
            f"model {folder}: {first_line(error)}",
            storage.missing_package(error) or "it takes a text model that this version of transformers knows",
        ) from error
    config = architecture.text_model(config)
    architecture.demand_decoder(config, folder)
    if spec.layers is not None:
        cutting.cut(config, spec.layers, folder)
    return config


def load_tokenizer(folder: Path, spec: ModelSpec) -> PreTrainedTokenizerBase:
    """The tokenizer beside a model.

    Raises:
        SpecbenchError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    files.check(folder, spec)
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
    is_split = isinstance(spec, CloudSpec) and spec.ranks > 1
    if is_split:
        placement = splitting.split_arguments(spec.ranks)
    try:
        with quiet_transformers():
            model, report = architecture.model_class(config).from_pretrained(
                folder,
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
    if not device_map and not is_split:
        model.to(resolve_device(spec.device))
    model.eval().requires_grad_(False)
    # Hub defaults for sampling and penalties would apply to model.generate and to nothing else.
    model.generation_config = GenerationConfig()
    if not is_split:  # ranks compute together, and this would be each one's own pass
        architecture.demand_causal(model, folder)
    return LoadedModel(model=model, folder=folder, device=_input_device(model), dtype=dtype)


def _input_device(model: PreTrainedModel) -> torch.device:
    """Where token ids go in; weights offloaded to disk have no device of their own."""
    import torch

    device = model.get_input_embeddings().weight.device
    if device.type != "meta":
        return device
    devices = [place for place in model.hf_device_map.values() if place not in ("cpu", "disk")]
    return torch.device(devices[0] if devices else "cpu")


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
            cls = architecture.model_class(config)
            return cls.from_config(config, dtype=getattr(torch, dtype), **own_code)
    except ImportError as error:
        raise ModelError(
            f"the {config.model_type} model cannot be built: {first_line(error)}",
            storage.missing_package(error) or "install that package",
        ) from error
