"""The profile's cluster: what a scheduler is asked for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from specbench.profile.part import MemorySize, Name, Part


class NodeSpec(Part):
    """What one node must have. `constraint` is the scheduler's name of a feature, such as a kind of machine."""

    partition: Name | None = None
    constraint: Name | None = None
    cpus: Annotated[int, Field(ge=1)] | None = None
    memory: MemorySize | None = None
    gpus: Annotated[int, Field(ge=1)] | None = None


class ClusterSpec(NodeSpec):
    """What `specbench submit --launcher slurm` asks for, for every job; nothing that is measured depends on it.

    `minutes` may pass before a job is ended. An `exclusive` job shares its nodes with nobody, whose work would
    be measured too. With `cloud`, a job has two nodes: the target is served on this one, and the edge is the
    other.
    """

    account: Name | None = None
    minutes: Annotated[int, Field(ge=1)] = 60
    exclusive: bool = True
    cloud: NodeSpec | None = None
