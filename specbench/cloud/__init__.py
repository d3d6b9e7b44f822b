"""EdgeModel and CloudModel: what a method receives. Nothing is read until it is asked for."""

from __future__ import annotations

from specbench.cloud.handle import CloudModel
from specbench.cloud.linked import LinkedCloud
from specbench.cloud.local import LocalCloud
from specbench.cloud.remote import RemoteCloud
from specbench.profile import Profile
from specbench.roles.edge import EdgeModel
from specbench.roles.role import ModelFactory

__all__ = ["CloudModel", "EdgeModel", "LinkedCloud", "LocalCloud", "ModelFactory", "RemoteCloud", "cloud_of"]


def cloud_of(profile: Profile) -> CloudModel:
    """The profile's target, by whatever runs it."""
    kind = CloudModel
    if profile.cloud.backend == "openai":
        from specbench.cloud.openai_cloud import OpenAiCloud

        kind = OpenAiCloud
    return kind(profile.cloud, profile.engine, profile.precision.allow_tf32, profile.link)
