"""The frames that the cloud sends: what it is, what a step committed, and what it found out."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from specbench.cloud.transport.facts import BytesPerSecond, Facts, Number, Text
from specbench.cloud.transport.fields import Frame, Tokens
from specbench.results.records import Audit, EnergyCounter
from specbench.speculation.recomputation import Recomputed
from specbench.speculation.ties import Evidence

MOST_COUNTERS = 256
Joules = Annotated[float, Meta(gt=-1e18, lt=1e18)]  # which NaN is not


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


class CommittedMore(Committed, frozen=True, tag=43):
    """`Committed` for what few methods ask.

    Args:
        depth: as of `Round`, and so are `replayed_tokens` and `snapshot_bytes`.
        top_ids: rows of as many ids as `Open` asked for, as `packed_ids` has them.
        hidden_states: as `Features.packed` has them; behind a prompt those of all its tokens, else a row for
            each committed token, and none where the text has ended.
        forced: as of `Round`, and so is `forced_accepted`.
    """

    depth: Number | None = None
    top_ids: bytes = b""
    hidden_states: bytes = b""
    forced: Number | None = None
    forced_accepted: Number | None = None
    replayed_tokens: Number | None = None
    snapshot_bytes: Number | None = None


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


class Metered(Frame, frozen=True, tag=44):
    """The answer to `AskEnergy`.

    Args:
        meter: a number of its own for each process that serves, whose counters begin at 0.
        machine: as `energy.machine_id` has it: an edge of the same machine reads the same counters.
        at_us: microseconds of the server's clock.
        edges: the most that were connected at a moment since this one last asked, itself included; all that
            ever were, where it had not asked on this connection. The counters count the work for all.
        counters: that count what the model computes, for the role `cloud`.
        joules: since the first `AskEnergy`, by the names of counters.
        absent: why others cannot be read, in sentences.
    """

    meter: Number
    machine: Text
    at_us: Number
    edges: Number
    counters: Annotated[tuple[EnergyCounter, ...], Meta(max_length=MOST_COUNTERS)]
    joules: Annotated[dict[Text, Joules], Meta(max_length=MOST_COUNTERS)]
    absent: Annotated[tuple[Text, ...], Meta(max_length=MOST_COUNTERS)]


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

Found = Audited | Speed | Metered | Proven | Held
Down = Welcome | Committed | CommittedMore | Dropped | Done | Opened | Found | Working | Refused
