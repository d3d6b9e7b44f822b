"""The frames that edge and cloud exchange, in MessagePack. What a peer sends is checked here, and never run.

An edge numbers its frames from 1, and every reply carries the number of the frame that it answers. `Trust` has
no reply; `Decode` and `Generate` have one a token, until the text ends or the edge sends something else.

Several `Verify` frames may be under way for one text, all but the last with `continues`. They are judged in
order, those that wait together in one pass. A refusal begins a new epoch, and frames of an older one are
answered with `Dropped`, most of them without having been read.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from specbench.cloud.transport.facts import BytesPerSecond, Facts, Number, Text
from specbench.results.records import Audit
from specbench.speculation.recomputation import Recomputed
from specbench.speculation.ties import LONGEST_DRAFT, Evidence

VERSION = 6
MOST_TOKENS = 1 << 20  # of a prompt, or of a text
MOST_DRAWS = 1 << 24  # random numbers that a text can have used
MAX_FRAME_BYTES = 16 << 20  # 64 draft distributions over a vocabulary of 40,000 that list every token

TokenId = Annotated[int, Meta(ge=0, lt=2**31)]
Tokens = Annotated[tuple[TokenId, ...], Meta(max_length=MOST_TOKENS)]
Distributions = Annotated[tuple[bytes, ...], Meta(max_length=LONGEST_DRAFT)]
Budget = Annotated[int, Meta(ge=1, le=MOST_TOKENS)]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Settings = Annotated[dict[str, Any], Meta(max_length=64)]


class ProtocolError(Exception):
    """Bytes that are no frame, or not the one that may come now."""


class Frame(Struct, frozen=True, array_like=True):
    """What crosses the wire in one message: an array that begins with the kind of frame.

    Args:
        number: of the edge's frame; a reply repeats it.
    """

    number: Number


class Hello(Frame, frozen=True, tag=0):
    """The edge's first frame.

    Args:
        version: of this protocol; a peer of any version can read this much.
        tokenizer_sha256: of the token-to-id map by which the edge makes prompts.
    """

    version: Number
    tokenizer_sha256: Text


class Open(Frame, frozen=True, tag=1):
    """How the texts of one method are to be decoded.

    Args:
        text: the edge's name for the place where one text at a time is decoded.
        decoding: the profile's part; `speculative` likewise.
        rolls_back: drafts will be verified, which takes a cache that can be rolled back.
        draft: the fingerprint of the draft that the cloud is to run itself; `None` where it runs none.
    """

    text: Number
    decoding: Settings
    speculative: Settings
    rolls_back: bool
    draft: Text | None = None


class Asked(Frame, frozen=True):
    """A frame that carries a request.

    Args:
        text: as of `Open`.
        stop_ids: in ascending order.
    """

    text: Number
    prompt_ids: Tokens
    max_new_tokens: Budget
    stop_ids: Tokens
    seed: Seed


class Begin(Asked, frozen=True, tag=2):
    """Prefill a prompt, and commit the first token."""


class Resume(Asked, frozen=True, tag=3):
    """Take up a text that was begun over a connection that was lost."""

    tokens: Tokens
    coins: Number
    own: Number
    proposals: Number = 0


class Verify(Frame, frozen=True, tag=4):
    """Drafted tokens to verify, and for some rules what each of them was drawn from.

    Args:
        epoch: how many drafts the cloud has refused since the `Begin` or `Resume`, as the edge knows it.
        continues: as of `Proposal`: the next `Verify` goes on behind these tokens.
    """

    text: Number
    tokens: Tokens
    distributions: Distributions
    epoch: Number = 0
    continues: bool = False


class Trust(Frame, frozen=True, tag=5):
    """Drafted tokens that the edge's gate lets pass."""

    text: Number
    tokens: Tokens


class Decode(Frame, frozen=True, tag=6):
    """Go on alone, token by token."""

    text: Number


class Generate(Asked, frozen=True, tag=7):
    """Answer a prompt by `model.generate`."""


class Stop(Frame, frozen=True, tag=8):
    """The edge reads a stream no further."""


class AskAudit(Frame, frozen=True, tag=9):
    """Look at every tensor again."""


class AskSpeed(Frame, frozen=True, tag=12):
    """Read memory, and say how fast that was."""


class Prove(Asked, frozen=True, tag=11):
    """Compute the position behind `tokens` as single steps do, and as a method's passes did; see `Evidence`."""

    tokens: Tokens
    passes: Annotated[tuple[tuple[Number | None, Tokens], ...], Meta(min_length=1, max_length=MOST_TOKENS)]
    pair: tuple[TokenId, TokenId]


class Recompute(Asked, frozen=True, tag=13):
    """Hold a text of the control against a pass without a cache; see `Recomputed`."""

    tokens: Tokens


class Close(Frame, frozen=True, tag=10):
    """The edge is done."""


class Welcome(Frame, frozen=True, tag=32):
    """The cloud's answer to `Hello`."""

    version: Number
    facts: Facts


class Committed(Frame, frozen=True, tag=33):
    """What a step committed.

    Args:
        finish: 0 while the text goes on, else the index of its reason in `FINISH_REASONS`.
        verify_us: microseconds the target computed; `busy_us` from the frame's arrival to this reply.
        cached: tokens in the target's cache: all of prompt and text but the last, so that a reply which is lost
            or comes twice is seen.
        coins: random numbers that the text has used so far; `own` and `proposals` likewise.
        drafted: tokens that the cloud drafted itself, in `draft_us` microseconds; `None` where it did not.
        shared: texts that shared the pass, which took `pass_us` of `verify_us` for all of them.
        pass_tokens: as of `Round`, and so is `wasted_us`, in microseconds.
    """

    tokens: Tokens
    accepted: Number
    finish: Annotated[int, Meta(ge=0, le=2)]
    verify_us: Number
    busy_us: Number
    cached: Number
    coins: Number
    own: Number
    proposals: Number = 0
    drafted: Number | None = None
    draft_us: Number = 0
    shared: Number = 1
    pass_us: Number = 0
    pass_tokens: Number | None = None
    wasted_us: Number = 0


class Dropped(Frame, frozen=True, tag=42):
    """A draft that follows one which was refused, or a text that has ended; nothing of it was committed."""


class Done(Frame, frozen=True, tag=34):
    """What was asked for is done, and there is nothing to say of it."""


class Opened(Frame, frozen=True, tag=39):
    """The answer to an `Open` that names a draft: what runs that draft's passes, and its precision."""

    engine: str
    audit: Audit


class Audited(Frame, frozen=True, tag=35):
    """The answer to `AskAudit`."""

    audit: Audit
    switches: dict[str, str | bool | None]


class Speed(Frame, frozen=True, tag=40):
    """The answer to `AskSpeed`."""

    bytes_per_second: BytesPerSecond


class Proven(Frame, frozen=True, tag=38):
    """The answer to `Prove`."""

    evidence: Evidence


class Held(Frame, frozen=True, tag=41):
    """The answer to `Recompute`."""

    recomputed: Recomputed


class Working(Frame, frozen=True, tag=36):
    """The frame has arrived, and its answer takes a while."""


class Refused(Frame, frozen=True, tag=37):
    """Why there is no answer.

    Args:
        is_over: the cloud hears no more on this connection.
    """

    reason: str
    is_over: bool


FINISH_REASONS = (None, "stop", "length")

Asking = Begin | Resume | Generate | Prove | Recompute
Up = Hello | Open | Asking | Verify | Trust | Decode | Stop | AskAudit | AskSpeed | Close
Down = Welcome | Committed | Dropped | Done | Opened | Audited | Speed | Proven | Held | Working | Refused

encode = msgspec.msgpack.Encoder().encode
_up = msgspec.msgpack.Decoder(Up)
_down = msgspec.msgpack.Decoder(Down)


def decode_up(message: bytes) -> Up:
    """The edge's frame.

    Raises:
        ProtocolError: it is none.
    """
    return _decoded(_up, message)


def decode_down(message: bytes) -> Down:
    """The cloud's frame.

    Raises:
        ProtocolError: it is none.
    """
    return _decoded(_down, message)


def _decoded(decoder: msgspec.msgpack.Decoder, message: bytes) -> Up | Down:
    if len(message) > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame of {len(message)} bytes; at most {MAX_FRAME_BYTES} are read")
    try:
        return decoder.decode(message)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"these bytes are no frame: {error}") from error
