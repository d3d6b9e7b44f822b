"""What a server says of its model when it is greeted."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from specbench.results.records import Audit

Number = Annotated[int, Meta(ge=0, lt=2**53)]
Text = Annotated[str, Meta(max_length=4096)]
BytesPerSecond = Annotated[float, Meta(gt=0, lt=1e18)]


class Facts(Struct, frozen=True):
    """What the cloud says of itself, so that a pair which does not match is refused before anything is timed.

    Args:
        files: SHA-256 of the model's files by name.
        engine: what really runs the passes; `engine_kind` and `batch_invariant` are what the profile asked for.
        threads: of one rank; `ranks` are the processes that hold the weights together.
        sessions: how many edges share a pass, and how long one waits for others, as `profile.Batch` has it.
        switches: what the arithmetic of its process is.
        weight_bytes: read for every token, and how fast, as `Ceiling` has it.
    """

    model: str
    files: dict[str, str]
    stored: tuple[str, ...]
    tokenizer_sha256: str
    layers: int | None
    dtype: str
    engine_kind: str
    batch_invariant: bool
    engine: str
    threads: int
    vocabulary_size: int
    versions: dict[str, str]
    machine: dict[str, str | int | None]
    switches: dict[str, str | bool | None]
    audit: Audit
    weight_bytes: Number | None
    bytes_per_second: BytesPerSecond
    reader: Text | None
    ranks: int = 1
    sessions: int = 1
    wait_ms: float = 0.0
