"""What is measured and kept: frozen dataclasses, standard library only.

A figure that is unknown or does not apply is `None`, never zero. Durations are milliseconds of a
monotonic clock; token counts are counts of committed ids.
"""

from specbench.results.ceilings import Ceiling
from specbench.results.provenance import MethodSource, OtherModel, Work
from specbench.results.records.energy import EnergyCounter, EnergyUse
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
    PromptFile,
    Round,
    Task,
)
from specbench.results.records.manifest import CONTROL, Failure, Manifest, Refusal, Run, Tuning, Written
from specbench.results.records.surroundings import Conditions, Surroundings

__all__ = [
    "CONTROL", "SCHEMA_VERSION", "SYNTHETIC", "Audit", "Ceiling", "Conditions", "Divergence", "EnergyCounter",
    "EnergyUse", "Failure", "Generation", "Manifest", "MemoryLook", "MethodSource", "OtherModel", "Prompt",
    "PromptFile", "Recomputation", "Refusal", "Round", "Run", "Surroundings", "SwitchChange", "Task",
    "TensorGroup", "Tuning", "Work", "Written",
]  # fmt: skip
