"""What is measured and kept: frozen dataclasses, standard library only.

A figure that is unknown or does not apply is `None`, never zero. Durations are milliseconds of a
monotonic clock; token counts are counts of committed ids.
"""

from specbench.ceilings import Ceiling
from specbench.provenance import MethodSource, OtherModel, Work
from specbench.records.findings import Audit, Divergence, Recomputation, SwitchChange, TensorGroup
from specbench.records.generations import SCHEMA_VERSION, Generation, MemoryLook, Prompt, Round
from specbench.records.manifest import CONTROL, Failure, Manifest, Refusal, Run, Tuning, Written

__all__ = [
    "CONTROL", "SCHEMA_VERSION", "Audit", "Ceiling", "Divergence", "Failure", "Generation", "Manifest",
    "MemoryLook", "MethodSource", "OtherModel", "Prompt", "Recomputation", "Refusal", "Round", "Run",
    "SwitchChange", "TensorGroup", "Tuning", "Work", "Written",
]  # fmt: skip
