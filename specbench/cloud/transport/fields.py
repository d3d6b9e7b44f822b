"""What the fields of frames are made of, how much of it at most, and bytes that are no frame."""

from __future__ import annotations

import struct
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from specbench.cloud.transport.facts import Number, Text
from specbench.models.media import MOST_FILES, File
from specbench.profile.decoding import LONGEST_DRAFT
from specbench.speculation.features import MOST_LAYERS, FeatureDtype, Features
from specbench.speculation.grammar import MOST_CHARACTERS
from specbench.speculation.request import TopIds

MAX_FRAME_BYTES = 16 << 20  # 64 draft distributions over a vocabulary of 40,000 that list every token
SPARE_BYTES = 1 << 16  # of a frame, for all else than its hidden states
MOST_TOKENS = 1 << 20  # of a prompt, or of a text
MOST_DRAWS = 1 << 24  # random numbers that a text can have used
MOST_TOP_IDS = 64  # behind a token

TokenId = Annotated[int, Meta(ge=0, lt=2**31)]
Tokens = Annotated[tuple[TokenId, ...], Meta(max_length=MOST_TOKENS)]
Distributions = Annotated[tuple[bytes, ...], Meta(max_length=LONGEST_DRAFT)]
Parents = Annotated[bytes, Meta(max_length=LONGEST_DRAFT)]
Budget = Annotated[int, Meta(ge=1, le=MOST_TOKENS)]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
TopCount = Annotated[int, Meta(ge=0, le=MOST_TOP_IDS)]
Layers = Annotated[tuple[Annotated[int, Meta(ge=0, lt=2**16)], ...], Meta(min_length=1, max_length=MOST_LAYERS)]
FeatureFields = tuple[Layers, Annotated[int, Meta(ge=1, lt=2**24)], FeatureDtype]
"""Layers, size and dtype, as of `Features`."""

GrammarFields = tuple[Text, Annotated[str, Meta(max_length=MOST_CHARACTERS)], Text]
"""Kind and text, as of `speculation.grammar.Grammar`, and a version of llguidance."""

MediaFields = tuple[bool, Annotated[tuple[File, ...], Meta(min_length=1, max_length=MOST_FILES)]]
"""Whether the draft reads them too, and files, as of `models.media.Media`."""

FrameT = TypeVar("FrameT")


class Frame(Struct, frozen=True, array_like=True):
    """What crosses the wire in one message: an array that begins with the kind of frame.

    Args:
        number: of the edge's frame; a reply repeats it.
    """

    number: Number


class ProtocolError(Exception):
    """Bytes that are no frame, or not the one that may come now."""


def decoded(decoder: msgspec.msgpack.Decoder[FrameT], message: bytes) -> FrameT:
    """The frame of a message.

    Raises:
        ProtocolError: it is none.
    """
    if len(message) > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame of {len(message)} bytes; at most {MAX_FRAME_BYTES} are read")
    try:
        return decoder.decode(message)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"these bytes are no frame: {error}") from error


def obstacle_to(features: Features, tokens: int) -> str | None:
    """Why the hidden states behind so many tokens of a prompt fit no frame; `None` where they do."""
    size, most = features.token_bytes * tokens, MAX_FRAME_BYTES - SPARE_BYTES
    if size <= most:
        return None
    return (
        f"the hidden states of a prompt of {tokens} tokens are {size} bytes as {features.dtype}, and a "
        f"reply holds {most}"
    )


def packed_parents(parents: tuple[int, ...]) -> bytes:
    """The parents of a tree's nodes, a byte each: 1 + its index, so that 0 is the committed text."""
    return bytes(parent + 1 for parent in parents)


def unpacked_parents(data: bytes) -> tuple[int, ...]:
    """What `packed_parents` packed."""
    return tuple(byte - 1 for byte in data)


def packed_ids(rows: TopIds) -> bytes:
    """Rows of ids, as uint32, little-endian."""
    ids = [token for row in rows for token in row]
    return struct.pack(f"<{len(ids)}I", *ids)


def unpacked_ids(data: bytes, count: int) -> TopIds:
    """Rows of `count` ids.

    Raises:
        ValueError: they are no whole rows.
    """
    if not count or len(data) % (4 * count):
        raise ValueError(f"{len(data)} bytes are no rows of {count} ids")
    ids = struct.unpack(f"<{len(data) // 4}I", data)
    return tuple(ids[start : start + count] for start in range(0, len(ids), count))
