"""specbench: does speculative decoding between an edge device and the cloud pay, all else being equal?

    from specbench import compare, run

    measured = run("default", ["speculative"], prompts=["What is a draft model?"])
    print(compare([measured]).to_frame())

Nothing of it needs torch until it is called.
"""

from __future__ import annotations

import importlib
import logging

logging.getLogger(__name__).addHandler(logging.NullHandler())  # whoever imports us decides what is shown

__version__ = "0.1.0"

_EXPORTS = {
    "CloudModel": "specbench.cloud",
    "Comparison": "specbench.results.derived",
    "EdgeModel": "specbench.cloud",
    "Profile": "specbench.profile",
    "Prompt": "specbench.results.records",
    "Run": "specbench.results.records",
    "SpecbenchError": "specbench.errors",
    "compare": "specbench.stats.comparison",
    "load_profile": "specbench.profile",
    "run": "specbench.benchmark.execution",
    "sweep": "specbench.sweeps.measuring",
}

__all__ = [
    "CloudModel", "Comparison", "EdgeModel", "Profile", "Prompt", "Run", "SpecbenchError", "__version__",
    "compare", "load_profile", "run", "sweep",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'specbench' has no attribute '{name}'")
