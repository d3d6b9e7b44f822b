"""What differs between versions of transformers, and what it prints while it loads."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from specbench.errors import ExitCode, SpecbenchError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def cache_argument(model: PreTrainedModel) -> str | None:
    """What the model's forward calls its cache: `cache` from transformers 5.24 on, `past_key_values` before.

    RWKV has a `state`.

    Returns:
        `None` for a model that takes none.
    """
    kinds: tuple[Any, ...] = type(model).__mro__
    for kind in kinds:  # code beside the weights may hand on whatever it is given
        takes = inspect.signature(kind.forward).parameters if "forward" in vars(kind) else ()
        for name in ("cache", "past_key_values", "state"):
            if name in takes:
                return name
    return None


def demand_cache_argument(model: PreTrainedModel, name: object) -> str:
    """As `cache_argument`, of a model that is to be decoded.

    Args:
        name: what messages call the model.

    Raises:
        SpecbenchError: it takes no cache.
    """
    argument = cache_argument(model)
    if argument is None:
        raise SpecbenchError(
            f"{name} cannot be decoded token by token: {type(model).__name__} takes no cache of what it has "
            "read",
            "choose a model that transformers decodes with a cache",
            ExitCode.MODEL,
        )
    return argument


def moved(model: PreTrainedModel, *where: str | torch.dtype) -> PreTrainedModel:
    """`model.to` another device, dtype, or both; transformers declares that method without `self`."""
    whole: Any = model
    return whole.to(*where)


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
