"""Whether a model can be split over ranks, and how it is read then (transformers' tensor parallelism)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from specbench.errors import ModelError
from specbench.models.architecture import layer_configs, meta_model

if TYPE_CHECKING:
    from transformers import PretrainedConfig

HEADS = ("num_attention_heads", "num_key_value_heads")


def demand_divisible(config: PretrainedConfig, name: str, ranks: int, dtype: str) -> None:
    """Refuse a model that cannot be split so, before its weights are read.

    Every rank computes whole attention heads. Other widths (of feed-forward layers, of the vocabulary) need not
    divide: the last rank's share is then smaller.

    Args:
        name: of the model, as the profile calls it.

    Raises:
        SpecbenchError: its heads do not divide, or transformers has no plan for it.
    """
    if ranks == 1:
        return
    layers = layer_configs(config)
    counts = {(field, count) for field in HEADS for layer in layers if (count := getattr(layer, field, None))}
    for field, count in sorted(counts):
        if count % ranks:
            divisors = [n for n in range(2, count) if not any(c % n for _, c in counts)]
            ways = f"cloud.parallel.tensor={divisors[0]} divides them; or " if divisors else ""
            raise ModelError(
                f"{name} cannot be split over {ranks} ranks: {field} is {count}, which {ranks} does not divide",
                f"{ways}leave out cloud.parallel, or choose another model",
            )
    if not any("attn" in rule or "attention" in rule for rule in meta_model(config, dtype).tp_plan):
        kind = config.model_type
        raise ModelError(
            f"{name} cannot be split over ranks: transformers has no plan for the attention of {kind}",
            "cloud.device_map spreads its layers over devices instead",
        )


def split_arguments(ranks: int) -> dict:
    """What `from_pretrained` must be told to read this rank's share alone.

    Raises:
        SpecbenchError: this version of transformers splits models otherwise.
    """
    try:
        from transformers.distributed import DistributedConfig

        return {"distributed_config": DistributedConfig(tp_plan="auto", tp_size=ranks)}
    except (ImportError, TypeError) as error:
        raise ModelError(
            "cloud.parallel needs a transformers with DistributedConfig(tp_size=...), such as 5.23",
            "pip install --upgrade transformers",
        ) from error


def demand_devices(device: str, ranks: int) -> str:
    """The kind of device that the ranks compute on: `cuda` with one for each rank, else `cpu`.

    Raises:
        SpecbenchError: there are CUDA devices, and too few of them.
    """
    import torch

    here = int(os.environ.get("LOCAL_WORLD_SIZE", ranks))  # under torchrun, ranks of this host
    if device == "cpu" or not torch.cuda.is_available():
        if device == "cuda":
            raise ModelError("cloud.device is cuda, and there is none", "use cpu or auto")
        return "cpu"
    if torch.cuda.device_count() < here:
        raise ModelError(
            f"{here} ranks need as many CUDA devices, and {torch.cuda.device_count()} are here",
            f"cloud.parallel.tensor={torch.cuda.device_count()}, or cloud.device=cpu",
        )
    return "cuda"
