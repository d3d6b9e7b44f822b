"""Where a method's figures come from: its code, and the work that was counted while it ran."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class MethodSource:
    """The code of a method.

    Args:
        name: of the distribution, or of the file, without its folder.
        version: of the distribution; `file` for a file.
        sha256: over the Python files of its package, or over the file; `None` where they cannot be read.
    """

    name: str
    version: str
    sha256: str | None

    @property
    def in_words(self) -> str:
        """Name, version and the beginning of the hash."""
        return f"{self.name} {self.version} ({self.sha256[:8] if self.sha256 else 'not read'})"


@dataclass(frozen=True)
class Work:
    """What was done for the rounds that a method yielded, over all its measured answers.

    Args:
        rounds: those with tokens that the target, or the edge where no cloud takes part, looked at.
        passes: of that model's engine; `None` where it runs in another process.
        answers: frames that came from the cloud; `None` where nothing lies between edge and cloud.
        beside_engine: calls of the models in this process that no engine made.
        uncompiled: those of them that went around a compiled engine, and were not declared (`own_passes`).
        without_pass: rounds, answer by answer, for which no pass was made; `without_answer` likewise.
    """

    rounds: int = 0
    passes: int | None = None
    answers: int | None = None
    beside_engine: int = 0
    uncompiled: int = 0
    without_pass: int = 0
    without_answer: int = 0

    def and_also(self, other: Work) -> Work:
        """The sum of both."""
        names = [field.name for field in fields(Work)]
        sums: dict[str, Any] = {name: _sum((getattr(self, name), getattr(other, name))) for name in names}
        return Work(**sums)


@dataclass(frozen=True)
class OtherModel:
    """A model in the process that the run did not load; `method` did, or it is not known which."""

    method: str | None
    kind: str
    dtype: str
    parameters: int

    @property
    def in_words(self) -> str:
        """What it is."""
        return f"a {self.kind} of {self.parameters:,} parameters in {self.dtype}"


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
