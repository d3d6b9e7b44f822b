"""The profile's cluster: what a scheduler is asked for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from specbench.profile.part import MemorySize, Name, Part


class NodeSpec(Part):
    """What one node must have."""

    partition: Name | None = Field(default=None, description="Partition that the job is submitted to.")
    constraint: Name | None = Field(
        default=None,
        description="Feature that the node must have, by the scheduler's name, such as a kind of machine.",
    )
    cpus: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Number of the node's processors."
    )
    memory: MemorySize | None = Field(default=None, description="Memory of the node.")
    gpus: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Number of the node's GPUs.")


class ClusterSpec(NodeSpec):
    """What every job of `specbench submit --launcher slurm` asks for; no measurement depends on it."""

    account: Name | None = Field(default=None, description="Account that pays for the job.")
    minutes: Annotated[int, Field(ge=1)] = Field(default=60, description="Time limit of one job, in minutes.")
    exclusive: bool = Field(
        default=True, description="Share the nodes with no other job, whose work would be measured too."
    )
    cloud: NodeSpec | None = Field(
        default=None, description="A second node, which serves the target. The first node is then the edge."
    )
