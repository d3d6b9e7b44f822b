"""specbench: does speculative decoding between an edge device and the cloud pay, all else being equal?

`from specbench import CloudModel, EdgeModel, load_profile` needs no torch until a model is loaded.
"""

from __future__ import annotations

import importlib
import logging

logging.getLogger(__name__).addHandler(logging.NullHandler())  # whoever imports us decides what is shown

__version__ = "0.1.0"

_EXPORTS = {
    "CloudModel": "specbench.factories",
    "EdgeModel": "specbench.factories",
    "Profile": "specbench.config",
    "SpecbenchError": "specbench.errors",
    "load_profile": "specbench.config",
}

__all__ = ["CloudModel", "EdgeModel", "Profile", "SpecbenchError", "__version__", "load_profile"]


def __getattr__(name: str) -> object:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'specbench' has no attribute '{name}'")
