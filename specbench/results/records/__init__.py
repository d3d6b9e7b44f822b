"""What is measured and kept: frozen dataclasses, standard library only.

A figure that is unknown or does not apply is `None`, never zero. Durations are milliseconds of a
monotonic clock; token counts are counts of committed ids.
"""

from specbench.results.ceilings import Ceiling
from specbench.results.provenance import MethodSource, OtherModel, Work
from specbench.results.records.findings import (
    Audit,
    Divergence,
    Recomputation,
    SwitchChange,
    TensorGroup,
)
from specbench.results.records.generations import (
    SCHEMA_VERSION,
    SYNTHETIC,
    Generation,
    MemoryLook,
    Prompt,
    Round,
    Task,
)
from specbench.results.records.manifest import CONTROL, Failure, Manifest, Refusal, Run, Tuning, Written

__all__ = [
    "CONTROL", "SCHEMA_VERSION", "SYNTHETIC", "Audit", "Ceiling", "Divergence", "Failure", "Generation",
    "Manifest", "MemoryLook", "MethodSource", "OtherModel", "Prompt", "Recomputation", "Refusal", "Round",
    "Run", "SwitchChange", "Task", "TensorGroup", "Tuning", "Work", "Written",
]  # fmt: skip
