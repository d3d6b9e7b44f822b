"""Methods replayed over a trace: their own decoders on a virtual clock, without a model and without waiting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from specbench.analysis.clock import Charge, Prices
from specbench.analysis.schedule import Length, Text
from specbench.analysis.virtual import Meter, VirtualCloud, VirtualEdge
from specbench.clock import virtual_time
from specbench.config import Decoding, Options, Speculative
from specbench.config.costs import Costs
from specbench.decoding.request import Request
from specbench.errors import SpecbenchError
from specbench.records import CONTROL, Round
from specbench.registry import Registry, discover

if TYPE_CHECKING:
    from specbench.method import Method

SCHEDULES = ("speculative", "speculative_pipelined", "speculative_colocated")
"""What a replay shows unless it is told: the methods that draft with the edge's model."""


@dataclass(frozen=True)
class Timed:
    """One sequence by one method.

    Args:
        ttft_ms: to the first token; `None` where the cost table says nothing of prompts.
        decode_ms: from the first token's arrival to the last one's.
        tokens: committed, the first one included.
        wasted: tokens that were drafted ahead in vain.
    """

    ttft_ms: float | None
    decode_ms: float
    tokens: int
    rounds: int = 0
    drafted: int = 0
    accepted: int = 0
    wasted: int = 0


class Played(NamedTuple):
    """One round of a replay: what was committed, what was charged for it, and when it arrived."""

    part: Round
    charges: tuple[Charge, ...]
    arrival_ms: float


def play(text: Text, prices: Prices, method: Method, draft_length: Length) -> list[Played]:
    """Run a method's decoder over one sequence.

    Raises:
        SpecbenchError: it asks for what a replay has not: a model, or the prompt of a trace without one.
    """
    options = Options(Decoding(), Speculative(draft_length=draft_length))
    request = Request(text.prompt_ids or (0,) * text.prompt_tokens, text.budget, text.stop_ids)
    with virtual_time() as clock:
        meter = Meter(prices, clock)
        edge: Any = VirtualEdge(text, meter)
        cloud: Any = VirtualCloud(text, meter)
        decoder = method.open(edge, cloud, options)
        if cloud.verifies and not edge.drafts and not text.prompt_ids:
            raise SpecbenchError(
                f"this trace holds no prompts, and the drafter of {method.name} reads them",
                "make it again with 'specbench trace'",
            )
        return [Played(part, meter.taken(), clock.now_ms) for part in decoder.generate(request)]


ANY = Prices(Costs.model_validate({"draft": {"step_ms": 1.0}, "target": {"verify_ms": {1: 1.0}}}))
"""Prices for rounds that do not depend on them."""


@lru_cache(maxsize=4096)
def timeless(text: Text, method: Method, draft_length: Length) -> tuple[Played, ...]:
    """The rounds of a method whose decisions do not depend on time."""
    return tuple(play(text, ANY, method, draft_length))


@lru_cache(maxsize=65_536)
def _counted(text: Text, method: Method, draft_length: Length) -> tuple[tuple[tuple[Charge, ...], int], ...]:
    """What such rounds behind the first are charged for, and how often each kind of round occurs."""
    return tuple(Counter(one.charges for one in timeless(text, method, draft_length)[1:]).items())


def timed(text: Text, prices: Prices, method: Method, draft_length: Length) -> Timed:
    """One sequence by one method at these prices."""
    options = Options(Decoding(), Speculative(draft_length=draft_length))
    if method.depends_on_time(options):
        played: Sequence[Played] = play(text, prices, method, draft_length)
        decode_ms = played[-1].arrival_ms - played[0].arrival_ms
    else:
        played = timeless(text, method, draft_length)
        counted = _counted(text, method, draft_length)
        decode_ms = sum(count * (prices.sum_of(charges) or 0.0) for charges, count in counted)
    parts = [one.part for one in played[1:] if one.part.drafted is not None]
    return Timed(
        ttft_ms=prices.sum_of(played[0].charges),
        decode_ms=decode_ms,
        tokens=len(text.runs),
        rounds=len(parts),
        drafted=sum(part.drafted or 0 for part in parts),
        accepted=sum(part.accepted or 0 for part in parts),
        wasted=sum(part.wasted_draft_tokens or 0 for part in parts),
    )


def replay(texts: Sequence[Text], prices: Prices, method: str | Method, draft_length: Length) -> list[Timed]:
    """All sequences by one method; `draft_length` means nothing to the control."""
    found = known_method(method)
    return [timed(text, prices, found, 1 if found.name == CONTROL else draft_length) for text in texts]


def known_method(method: str | Method) -> Method:
    """A method, by itself or by the name of one of ours or of an installed one.

    Raises:
        SpecbenchError: there is none of that name.
    """
    return _registry().get(method) if isinstance(method, str) else method


@lru_cache(maxsize=1)
def _registry() -> Registry:
    return discover()


class Step(NamedTuple):
    """One round of `speculative`, as many edges on one target are simulated with.

    Args:
        unread: tokens that the draft's first pass read.
        guessed: whether the draft, had it gone on, would have said the target's own token behind its proposal.
        trusted: tokens that a gate let pass since the last verification, which this one reads too.
        verified: and not let pass by a gate.
    """

    drafted: int
    unread: int
    accepted: int
    committed: int
    guessed: bool = False
    trusted: int = 0
    verified: bool = True

    @property
    def width(self) -> int:
        """Tokens of the verification's pass."""
        return self.trusted + self.drafted + 1

    @property
    def unread_behind(self) -> int:
        """The last drafted token was never read; where it stands, it and the bonus token are both new."""
        return 2 if self.drafted and self.accepted == self.drafted else 1


def rounds(text: Text, draft_length: int) -> list[Step]:
    """The rounds of `speculative` with a fixed draft length, of the control with 0; no cost decides them."""
    position, trusted, found = 1, 0, []
    method = known_method("speculative" if draft_length else CONTROL)
    for part, charges, _ in timeless(text, method, draft_length or 1)[1:]:
        unread = next((one.second for one in charges if one.kind == "draft"), 1)
        committed, verified = len(part.tokens), part.unverified is None
        drafted = (part.drafted if verified else part.unverified) or 0
        guessed = verified and text.runs[position] > drafted
        found.append(Step(drafted, unread, part.accepted or 0, committed, guessed, trusted, verified))
        position, trusted = position + committed, 0 if verified else trusted + committed
    return found
