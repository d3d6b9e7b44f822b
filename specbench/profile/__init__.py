"""Profiles: one YAML file says everything that a run depends on."""

from specbench.profile.cluster import ClusterSpec, NodeSpec
from specbench.profile.decoding import Decoding, Gate, Speculative
from specbench.profile.grammar import GrammarSpec
from specbench.profile.link import LinkSpec
from specbench.profile.loading import list_profiles, load_profile, settings_hash
from specbench.profile.models import HELPERS, Batch, CloudSpec, EdgeSpec, ModelSpec
from specbench.profile.part import Part
from specbench.profile.schema import EngineSpec, Options, Precision, Profile, Workload

__all__ = [
    "HELPERS",
    "Batch",
    "CloudSpec",
    "ClusterSpec",
    "Decoding",
    "EdgeSpec",
    "EngineSpec",
    "Gate",
    "GrammarSpec",
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
