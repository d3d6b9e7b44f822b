"""Methods replayed over a trace: their own decoders on a virtual clock, without a model and without waiting."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from specbench.clock import virtual_time
from specbench.errors import SpecbenchError
from specbench.forecast.events import Asked, Awaited, Event, Timeline, charges_of, elapsed_ms
from specbench.forecast.spending import Modelled, Use, modelled, use_of
from specbench.forecast.traced_drafter import Text
from specbench.forecast.virtual_models import VirtualCloud, VirtualEdge
from specbench.profile import Decoding, Options, Speculative
from specbench.profile.cost_table import Costs
from specbench.registry import Registry, discover
from specbench.results.records import CONTROL, Round
from specbench.speculation.request import Request
from specbench.stats.prices import Prices

if TYPE_CHECKING:
    from specbench.method import Method

Length = int | Literal["auto"]
SCHEDULES = ("speculative", "speculative_pipelined", "speculative_colocated")
"""What a replay shows unless it is told: the methods that draft with the edge's model."""


@dataclass(frozen=True)
class Timed:
    """One sequence by one method.

    Args:
        ttft_ms: to the first token; `None` where the cost table says nothing of prompts.
        decode_ms: from the first token's arrival to the last one's.
        tokens: committed, the first one included.
        rounds: of speculation, plain steps included.
        drafting_rounds: those that drafted; they committed `drafting_tokens`.
        wasted: tokens that were drafted ahead and dropped.
        use: of the machines and the link, behind the first token; `None` unless the cost table has a power
            model or prices.
    """

    ttft_ms: float | None
    decode_ms: float
    tokens: int
    rounds: int = 0
    drafting_rounds: int = 0
    drafting_tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    wasted: int = 0
    use: Use | None = None


class Played(NamedTuple):
    """One round of a replay: what was committed, the events up to there, and when it arrived."""

    part: Round
    events: tuple[Event, ...]
    arrival_ms: float


def play(text: Text, prices: Prices, method: Method, draft_length: Length) -> tuple[Played, ...]:
    """Run a method's decoder over one sequence.

    Raises:
        SpecbenchError: it asks for what a replay has not: a model, or the prompt of a trace without one.
    """
    options = _options(draft_length)
    request = Request(text.prompt_ids or (0,) * text.prompt_tokens, text.budget, text.stop_ids)
    with virtual_time() as clock:
        timeline = Timeline(prices, clock)
        edge: Any = VirtualEdge(text, timeline)
        cloud: Any = VirtualCloud(text, timeline)
        decoder = method.open(edge, cloud, options)
        if cloud.verifies and not edge.drafts and not text.prompt_ids:
            raise SpecbenchError(
                f"the drafter of {method.name} reads prompts, and there are none here",
                "make a trace of them with 'specbench trace'",
            )
        if method.keeps_costs:
            deque(decoder.generate(request), maxlen=0)  # as the warm-up of a run does
            timeline.taken()
        return tuple(Played(part, timeline.taken(), clock.now_ms) for part in decoder.generate(request))


def _options(draft_length: Length) -> Options:
    return Options(Decoding(), Speculative(draft_length=draft_length))


def _any(restores_state: bool) -> Prices:
    target = {"verify_ms": {1: 1.0}, "restores_state": restores_state}
    return Prices(Costs.model_validate({"draft": {"step_ms": 1.0}, "target": target}))


ANY, ANY_RESTORING = _any(False), _any(True)
"""Prices for rounds that do not depend on them, but for whether a refusal restores the target's state."""


@lru_cache(maxsize=4096)
def timeless(text: Text, method: Method, draft_length: Length, restores: bool = False) -> tuple[Played, ...]:
    """The rounds of a method whose decisions do not depend on time."""
    return play(text, ANY_RESTORING if restores else ANY, method, draft_length)


def depends_on_time(method: Method, draft_length: Length) -> bool:
    """Whether rounds have to be played at each price."""
    return method.depends_on_time(_options(draft_length))


def played(text: Text, prices: Prices, method: Method, draft_length: Length) -> tuple[Played, ...]:
    """The rounds at these prices; their arrivals are those at these prices where rounds depend on time."""
    if depends_on_time(method, draft_length):
        return play(text, prices, method, draft_length)
    return timeless(text, method, draft_length, prices.costs.target.restores_state)


class Outcome(NamedTuple):
    """What became of a round's draft."""

    drafted: int | None
    accepted: int | None
    committed: int


class Kind(NamedTuple):
    """Rounds that are alike; several in a row where a request is open between them."""

    outcomes: tuple[Outcome, ...]
    events: tuple[Event, ...]


@lru_cache(maxsize=65_536)
def _counted(text: Text, method: Method, draft_length: Length, restores: bool) -> Counter[Kind]:
    """How often each kind of timeless round behind the first occurs."""
    found: Counter[Kind] = Counter()
    outcomes: tuple[Outcome, ...] = ()
    events: tuple[Event, ...] = ()
    open_requests = 0
    for one in timeless(text, method, draft_length, restores)[1:]:
        outcomes += (_outcome(one.part),)
        events += one.events
        open_requests += sum(isinstance(event, Asked) - isinstance(event, Awaited) for event in one.events)
        if not open_requests:
            found[Kind(outcomes, events)] += 1
            outcomes = events = ()
    return found


def _outcome(part: Round) -> Outcome:
    return Outcome(part.drafted, part.accepted, len(part.tokens))


def kinds(
    text: Text, prices: Prices, method: Method, draft_length: Length
) -> Iterator[tuple[Kind, int, float]]:
    """The rounds behind the first, by kind: how many there are, and how long one takes."""
    if not depends_on_time(method, draft_length):
        restores = prices.costs.target.restores_state
        for kind, count in _counted(text, method, draft_length, restores).items():
            yield kind, count, elapsed_ms(kind.events, prices)
        return
    for before, one in pairwise(play(text, prices, method, draft_length)):
        yield Kind((_outcome(one.part),), one.events), 1, one.arrival_ms - before.arrival_ms


def timed(text: Text, prices: Prices, method: Method, draft_length: Length) -> Timed:
    """One sequence by one method at these prices."""
    found = played(text, prices, method, draft_length)
    if depends_on_time(method, draft_length):
        took_ms = found[-1].arrival_ms - found[0].arrival_ms
        alike: list[tuple[tuple[Event, ...], int]] = [(one.events, 1) for one in found[1:]]
    else:
        known = list(kinds(text, prices, method, draft_length))
        took_ms = sum(count * ms for _, count, ms in known)
        alike = [(kind.events, count) for kind, count, _ in known]
    first = found[0].events
    parts = [one.part for one in found[1:] if one.part.drafted is not None]
    drafting = [part for part in parts if part.drafted]
    return Timed(
        ttft_ms=elapsed_ms(first, prices) if prices.knows(charges_of(first)) else None,
        decode_ms=took_ms,
        tokens=len(text.runs),
        rounds=len(parts),
        drafting_rounds=len(drafting),
        drafting_tokens=sum(len(part.tokens) for part in drafting),
        drafted=sum(part.drafted or 0 for part in parts),
        accepted=sum(part.accepted or 0 for part in parts),
        wasted=sum(one.part.wasted_draft_tokens or 0 for one in found[1:]),
        use=use_of(alike, prices) if prices.costs.is_spending_known else None,
    )


def replay(texts: Sequence[Text], prices: Prices, method: str | Method, draft_length: Length) -> list[Timed]:
    """All sequences by one method; `draft_length` means nothing to the control."""
    found = known_method(method)
    return [timed(text, prices, found, 1 if found.name == CONTROL else draft_length) for text in texts]


def spent(timed: Sequence[Timed], costs: Costs, clients: int | None = None) -> Modelled:
    """What a token of these sequences takes in energy and money behind the first one, modelled.

    Args:
        clients: as of `modelled`.
    """
    uses = [one.use for one in timed if one.use is not None]
    use = reduce(Use.plus, uses) if uses and len(uses) == len(timed) else None
    tokens = sum(one.tokens - 1 for one in timed)
    return modelled(use, sum(one.decode_ms for one in timed), tokens, costs, clients)


def rounds(text: Text, draft_length: int) -> list[Round]:
    """What the rounds of `speculative` behind the first commit; no cost decides them."""
    return [one.part for one in timeless(text, known_method("speculative"), draft_length)[1:]]


def known_method(method: str | Method) -> Method:
    """A method, by itself or by the name of one of ours or of an installed one.

    Raises:
        SpecbenchError: there is none of that name.
    """
    return _registry().get(method) if isinstance(method, str) else method


@lru_cache(maxsize=1)
def _registry() -> Registry:
    return discover()
