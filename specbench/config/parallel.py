"""A target that is split over several processes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from specbench.config.part import Part


class Parallel(Part):
    """How a target is split: `tensor` is the number of ranks, processes with a share of every weight."""

    tensor: Annotated[int, Field(ge=1, le=1024)] = 1
