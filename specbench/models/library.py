"""What differs between versions of transformers, and what it prints while it loads."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def cache_argument(model: PreTrainedModel) -> str | None:
    """What the model's forward calls its cache: `cache` from transformers 5.24 on, `past_key_values` before.

    Returns:
        `None` for a model that takes none.
    """
    kinds: tuple[Any, ...] = type(model).__mro__
    for kind in kinds:  # code beside the weights may hand on whatever it is given
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
