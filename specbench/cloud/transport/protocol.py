"""The frames that an edge sends, and how frames cross, in MessagePack: what a peer sends is checked, never run.

An edge numbers its frames from 1, and every reply carries the number of the frame that it answers. `Trust` has
no reply; `Decode` and `Generate` have one a token, until the text ends or the edge sends something else.

Several `Verify` frames may be under way for one text, all but the last with `continues`. They are judged in
order, those that wait together in one pass. A refusal begins a new epoch, and frames of an older one are
answered with `Dropped`, most of them without having been read.

A `Verify` with a `start` may come while its text is being decoded. Where the text has come further than the
draft it is answered with `Dropped` and the stream goes on; where it says something else too, and a new epoch
begins. Else the stream ends, and the rest of the draft is judged.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from specbench.cloud.transport.answers import Down
from specbench.cloud.transport.facts import Number, Text
from specbench.cloud.transport.fields import (
    MOST_TOKENS,
    Budget,
    Distributions,
    FeatureFields,
    Frame,
    GrammarFields,
    MediaFields,
    Parents,
    Seed,
    TokenId,
    Tokens,
    TopCount,
    decoded,
)

VERSION = 10

Settings = Annotated[dict[str, Any], Meta(max_length=64)]


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
        trees: drafts may be trees; `top_k` and `features` likewise as of `Needs`.
    """

    text: Number
    decoding: Settings
    speculative: Settings
    rolls_back: bool
    draft: Text | None = None
    trees: bool = False
    top_k: TopCount = 0
    features: FeatureFields | None = None


class Asked(Frame, frozen=True):
    """A frame that carries a request.

    Args:
        text: as of `Open`.
        stop_ids: in ascending order.
        grammar: that the answer follows, and the version of llguidance by which the edge reads it.
        media: the files that the prompt has placeholders for.
    """

    text: Number
    prompt_ids: Tokens
    max_new_tokens: Budget
    stop_ids: Tokens
    seed: Seed
    grammar: GrammarFields | None
    media: MediaFields | None


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
        start: tokens of prompt and text before it, from an edge that may be behind: a cloud that decodes alone
            meanwhile holds what it has said since against the draft.
        goes_on: as of `Proposal`: replies of one token each follow until the edge sends something else.
    """

    text: Number
    tokens: Tokens
    distributions: Distributions
    epoch: Number = 0
    continues: bool = False
    start: Number | None = None
    goes_on: bool = False


class VerifyTree(Verify, frozen=True, tag=14):
    """A tree to verify. The reply need not name the accepted path: siblings differ, so its tokens do.

    Args:
        parents: as `packed_parents` has them, of as many tokens.
    """

    parents: Parents = b""


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


class AskEnergy(Frame, frozen=True, tag=15):
    """Read the counters of energy beside which the model computes."""


class Prove(Asked, frozen=True, tag=11):
    """Compute the position behind `tokens` as single steps do, and as a method's passes did; see `Evidence`."""

    tokens: Tokens
    passes: Annotated[
        tuple[tuple[Number | None, Tokens, bool], ...], Meta(min_length=1, max_length=MOST_TOKENS)
    ]
    pair: tuple[TokenId, TokenId]


class Recompute(Asked, frozen=True, tag=13):
    """Hold a text of the control against a pass without a cache; see `Recomputed`."""

    tokens: Tokens


class Close(Frame, frozen=True, tag=10):
    """The edge is done."""


Asking = Begin | Resume | Generate | Prove | Recompute
Stepping = Begin | Resume | Trust | Decode
"""What is decoded step by step."""
About = Hello | AskAudit | AskSpeed | AskEnergy
Up = About | Open | Asking | Verify | VerifyTree | Trust | Decode | Stop | Close

encode = msgspec.msgpack.Encoder().encode
_up = msgspec.msgpack.Decoder(Up)
_down = msgspec.msgpack.Decoder(Down)


def decode_up(message: bytes) -> Up:
    """The edge's frame.

    Raises:
        ProtocolError: it is none.
    """
    return decoded(_up, message)


def decode_down(message: bytes) -> Down:
    """The cloud's frame.

    Raises:
        ProtocolError: it is none.
    """
    return decoded(_down, message)
