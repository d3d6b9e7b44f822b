"""Profiles: one YAML file says everything that a run depends on."""

from specbench.config.cluster import ClusterSpec, NodeSpec
from specbench.config.decoding import Decoding, Gate, Speculative
from specbench.config.link import LinkSpec
from specbench.config.loading import list_profiles, load_profile, settings_hash
from specbench.config.models import HELPERS, Batch, CloudSpec, EdgeSpec, ModelSpec
from specbench.config.part import Part
from specbench.config.profile import EngineSpec, Options, Precision, Profile, Workload

__all__ = [
    "HELPERS",
    "Batch",
    "CloudSpec",
    "ClusterSpec",
    "Decoding",
    "EdgeSpec",
    "EngineSpec",
    "Gate",
    "LinkSpec",
    "ModelSpec",
    "NodeSpec",
    "Options",
    "Part",
    "Precision",
    "Profile",
    "Speculative",
    "Workload",
    "list_profiles",
    "load_profile",
    "settings_hash",
]  # fmt: skip
