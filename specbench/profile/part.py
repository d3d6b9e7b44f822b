"""What every part of a profile has in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]

MemorySize = Annotated[
    str, StringConstraints(pattern=r"^\d+(\.\d+)?\s?(MB|GB|MiB|GiB)$"), Field(examples=["8GiB", "500 MB"])
]


class Part(BaseModel):
    """A part of a profile: every key is known, every value has its type, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
