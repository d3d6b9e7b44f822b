"""EdgeModel and CloudModel: what a method receives. Nothing is read until it is asked for."""

from __future__ import annotations

from specbench.config import Profile
from specbench.factories.cloud import CloudModel
from specbench.factories.edge import EdgeModel
from specbench.factories.linked import LinkedCloud
from specbench.factories.local import LocalCloud
from specbench.factories.model import ModelFactory
from specbench.factories.remote import RemoteCloud

__all__ = ["CloudModel", "EdgeModel", "LinkedCloud", "LocalCloud", "ModelFactory", "RemoteCloud", "cloud_of"]


def cloud_of(profile: Profile) -> CloudModel:
    """The profile's target, by whatever runs it."""
    kind = CloudModel
    if profile.cloud.backend == "vllm":
        from specbench.factories.vllm import VllmCloud

        kind = VllmCloud
    return kind(profile.cloud, profile.engine, profile.precision.allow_tf32, profile.link)
