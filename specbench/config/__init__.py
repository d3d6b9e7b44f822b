"""Profiles: one YAML file says everything that a run depends on."""

from specbench.config.cluster import ClusterSpec, NodeSpec
from specbench.config.link import LinkSpec
from specbench.config.loading import list_profiles, load_profile, settings_hash
from specbench.config.options import Options
from specbench.config.profile import (
    Batch,
    CloudSpec,
    Decoding,
    EdgeSpec,
    EngineSpec,
    ModelSpec,
    Precision,
    Profile,
    Speculative,
    Workload,
)

__all__ = [
    "Batch",
    "CloudSpec",
    "ClusterSpec",
    "Decoding",
    "EdgeSpec",
    "EngineSpec",
    "LinkSpec",
    "ModelSpec",
    "NodeSpec",
    "Options",
    "Precision",
    "Profile",
    "Speculative",
    "Workload",
    "list_profiles",
    "load_profile",
    "settings_hash",
]
