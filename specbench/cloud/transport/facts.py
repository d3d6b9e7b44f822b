"""What a server says of its model when it is greeted."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, to_builtins

from specbench.profile import CloudSpec, EngineSpec, settings_hash
from specbench.results.records import Audit

Number = Annotated[int, Meta(ge=0, lt=2**53)]
LONGEST_TEXT = 4096
Text = Annotated[str, Meta(max_length=LONGEST_TEXT)]
BytesPerSecond = Annotated[float, Meta(gt=0, lt=1e18)]


KEYS = {
    "dtype": "cloud.dtype",
    "layers": "cloud.layers",
    "ranks": "cloud.parallel.tensor",
    "sessions": "cloud.batch.sessions",
    "wait_ms": "cloud.batch.wait_ms",
    "threads": "cloud.threads",
    "engine": "engine.kind",
    "batch_invariant": "engine.batch_invariant",
}


class ServedProfile(Struct, frozen=True, rename=KEYS):
    """What edge and server must agree on of their profiles; on the wire, under the profile's keys.

    Args:
        ranks: processes that hold the weights together.
        sessions: how many edges share a pass; `wait_ms` is how long one waits for others.
        threads: of one rank; `None` where a profile leaves them open.
        engine: what the profile asks for; a server that was asked for `auto` says what that came to.
    """

    dtype: str
    layers: int | None
    ranks: int
    sessions: int
    wait_ms: float
    threads: int | None
    engine: str
    batch_invariant: bool

    @classmethod
    def of(cls, cloud: CloudSpec, engine: EngineSpec) -> ServedProfile:
        """The part of a profile."""
        wait_ms = cloud.batch.wait_ms if cloud.batch.sessions > 1 else 0.0  # else nobody waits for others
        return cls(
            cloud.dtype,
            cloud.layers,
            cloud.ranks,
            cloud.batch.sessions,
            wait_ms,
            cloud.threads,
            engine.kind,
            engine.batch_invariant,
        )

    @property
    def sha256(self) -> str:
        """SHA-256 of keys and values."""
        return settings_hash(to_builtins(self))

    def difference(self, other: ServedProfile) -> tuple[str, object, object] | None:
        """The first key whose values differ, and both values."""
        theirs = to_builtins(other)
        pairs = ((key, value, theirs[key]) for key, value in to_builtins(self).items())
        return next(((key, ours, there) for key, ours, there in pairs if ours != there), None)


class Facts(Struct, frozen=True):
    """What the cloud says of itself, so that a pair which does not match is refused before anything is timed.

    Args:
        files: SHA-256 of the model's files by name.
        profile: what it serves; `profile_sha256` is its hash.
        engine: what really runs the passes; `engine_note` says why, where the profile does not decide it.
        switches: what the arithmetic of its process is.
        weight_bytes: read for every token, and how fast, as `Ceiling` has it.
    """

    model: str
    files: dict[str, str]
    stored: tuple[str, ...]
    tokenizer_sha256: str
    profile: ServedProfile
    profile_sha256: Text
    engine: str
    vocabulary_size: int
    versions: dict[str, str]
    machine: dict[str, str | int | None]
    switches: dict[str, str | bool | None]
    audit: Audit
    weight_bytes: Number | None
    bytes_per_second: BytesPerSecond
    reader: Text | None
    engine_note: Text = ""
