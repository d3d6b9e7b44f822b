"""What memory allows a model, token by token, and how it was measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """How fast memory was read beside one prompt, just before the methods were asked it."""

    prompt_id: str
    repeat: int
    bytes_per_second: float


@dataclass(frozen=True)
class Ceiling:
    """What memory allows one model on one device.

    Args:
        weight_bytes: read for every token, of experts as many as it chooses; `None` where that is not known,
            and where ranks share the reading.
        bytes_per_second: median of the readings; where there are none, what was measured before the run, or
            when a server started.
        reader: what was tried to read as fast as can be: without a compiler, torch's sum alone.
        read_bytes: size of each read, which is the model's own unless memory was short.
    """

    weight_bytes: int | None
    bytes_per_second: float
    reader: str | None = None
    read_bytes: int | None = None
    readings: tuple[Reading, ...] = ()

    @property
    def tokens_per_second(self) -> float | None:
        """The limit of decoding token by token."""
        return self.bytes_per_second / self.weight_bytes if self.weight_bytes else None

    @property
    def range(self) -> tuple[float, float] | None:
        """The slowest and the fastest reading, in bytes a second; `None` with fewer than two."""
        found = [reading.bytes_per_second for reading in self.readings]
        return (min(found), max(found)) if len(found) > 1 else None

    def beside(self, prompt_id: str, repeat: int) -> float:
        """Bytes a second beside a prompt; the median where nothing was read there."""
        found = (each for each in self.readings if (each.prompt_id, each.repeat) == (prompt_id, repeat))
        return next((each.bytes_per_second for each in found), self.bytes_per_second)

    def share(self, ms_per_token: float | None, bytes_per_second: float | None = None) -> float | None:
        """The part of the limit that a time per token reaches; speculation may pass 1.

        Args:
            bytes_per_second: of the moment; the median when absent.
        """
        if not ms_per_token or not self.weight_bytes:
            return None
        return 1000 / ms_per_token * self.weight_bytes / (bytes_per_second or self.bytes_per_second)
