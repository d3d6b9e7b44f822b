"""A bound: what a sequence would take if each choice were made by who knows what every draft is worth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise, takewhile
from math import ceil, inf
from typing import Any, NamedTuple, cast

from specbench.clock import VirtualClock
from specbench.errors import SpecbenchError
from specbench.forecast.events import Timeline
from specbench.forecast.replay import ANY, known_method
from specbench.forecast.traced_drafter import Text
from specbench.forecast.varied import Varied, drafts
from specbench.forecast.virtual import standing
from specbench.forecast.virtual_models import VirtualEdge
from specbench.method import Method, SpeculativeMethod
from specbench.profile import Decoding, Options, Speculative
from specbench.profile.decoding import LONGEST_DRAFT
from specbench.speculation.loop import Drafter
from specbench.speculation.proposal import MOST_NODES
from specbench.speculation.request import Request
from specbench.stats.prices import Prices

Drafting = SpeculativeMethod | Varied
LOOKUPS = ("suffix", "prompt_lookup")
"""Drafters beside the traced model: what they propose follows from the text, and costs nothing."""


class Bound:
    """The least time that a sequence takes if whoever decodes it knows what each draft would get right.

    Where nothing is in flight it chooses between

    - one more token of the cloud alone, streamed. To begin and to end a stream takes no time, because the edge
      knows long before when to ask for that;
    - an epoch: one drafter, so many of the tokens that it gets right, and how they are divided into proposals.
      All of these are sent without waiting, and the last one gets the target's own token;
    - such an epoch that the target, decoding alone, hands over to: the way there and the drafting take as long
      as the tokens that it says meanwhile, and what is left of the draft takes one pass;
    - one tree of the traced model's likeliest tokens, where the trace has them, with no more nodes than the
      right path needs: those and their likelier siblings. A stream hands over to it likewise;
    - a plain step, for which the edge asks.

    It knows what will stand, but uses no token before it has come: an epoch begins when the one before has
    ended. Drafts that a refusal would drop are never better, so it makes none. It is charged for draft steps,
    the link, passes, and the edge's other time behind an epoch that no stream follows. In an epoch a pass costs
    what the highest straight line below the table says. It is not charged for reading committed tokens on the
    edge, nor for what draft and target cost each other where they share a machine. So no method is faster
    that drafts by these drafters on the edge, and for one verdict at a time. One that drafts in the cloud, by
    other trees, or for several verdicts can be.

    Args:
        methods: those whose drafts may be chosen beside the traced model's, where they need no model.
    """

    def __init__(self, methods: Sequence[str | Method] = ()) -> None:
        found = {method.name: method for method in map(known_method, (*LOOKUPS, *methods))}
        self._methods = [cast(Drafting, each) for each in found.values() if drafts(each)]

    def decode_ms(self, text: Text, prices: Prices) -> float:
        """From the first token's arrival to the last one's.

        Raises:
            SpecbenchError: the sequence has a gate, which commits what nobody verified.
        """
        if text.sure:
            raise SpecbenchError("the oracle knows no gate", "leave out --oracle, or the gate")
        length = len(text.runs)
        alone_ms = max(prices.pass_ms(1) + prices.stream_ms, prices.answer_ms(1))
        trip_ms = prices.rtt_ms + prices.overhead_ms
        model = _costs(prices, prices.step_ms, max(text.runs[1:], default=0))
        free = _costs(prices, 0.0, LONGEST_DRAFT)
        choices = [
            (runs, epochs_ms(costs, most), costs, _overtaken(costs.step_ms, alone_ms, trip_ms))
            for runs, (costs, most) in [
                (text.runs, model),
                *((runs, free) for runs in lookups(text, tuple(self._methods))),
            ]
        ]
        branches, step_ms = branches_of(text), prices.step_ms
        overtaken = _overtaken(step_ms, alone_ms, trip_ms)
        # The target adds a token of its own, so only a stop token can be the last one that is drafted.
        room = length if length < text.budget else length - 1
        # By position: the least time from there, and from there where an epoch has just ended.
        best, behind = [0.0] * (length + 1), [prices.round_ms] * (length + 1)
        for position in range(length - 1, 0, -1):
            streamed_ms = alone_ms + best[position + 1]
            drafted_ms = min(
                trip_ms + took_ms[drafted] + behind[min(position + drafted + 1, length)]
                for runs, took_ms, _, _ in choices
                for drafted in range(max(0, min(runs[position], room - position)) + 1)
            )
            handed_ms = min(
                (
                    said * alone_ms + costs.pass_ms + (drafted - said + 1) * costs.row_ms
                    + best[min(position + drafted + 1, length)]
                    for runs, _, costs, said in choices
                    for drafted in range(said + 1, min(runs[position], room - position) + 1)
                ),
                default=inf,
            )  # fmt: skip
            nodes = (0, *branches[position][: max(0, room - position)]) if branches else (0,)
            for drafted in range(1, len(nodes)):
                ends, width = min(position + drafted + 1, length), nodes[drafted] + 1
                link_ms = trip_ms + prices.sending_ms(nodes[drafted]) + prices.answer_ms(drafted + 1)
                tree_ms = link_ms + drafted * step_ms + prices.pass_ms(width) + behind[ends]
                drafted_ms = min(drafted_ms, tree_ms)
                if drafted > overtaken:
                    pass_ms = prices.pass_ms(width - nodes[overtaken])
                    handed_ms = min(handed_ms, overtaken * alone_ms + pass_ms + best[ends])
            best[position] = min(streamed_ms, drafted_ms, handed_ms)
            behind[position] = min(streamed_ms, prices.round_ms + drafted_ms, handed_ms)
        return best[1] if length > 1 else 0.0


class _Costs(NamedTuple):
    """What an epoch's time depends on besides the round trip.

    Args:
        pass_ms: of a pass, and `row_ms` of each token that it reads.
        up_ms: of a proposal by its tokens, without latency; `down_ms` of an answer.
    """

    step_ms: float
    pass_ms: float
    row_ms: float
    up_ms: tuple[float, ...]
    down_ms: tuple[float, ...]


def _overtaken(step_ms: float, alone_ms: float, trip_ms: float) -> int:
    """How many tokens the target says alone, at least, before a draft of what follows is ahead of it."""
    return ceil((trip_ms + step_ms) / (alone_ms - step_ms)) if step_ms < alone_ms else LONGEST_DRAFT**2


def _costs(prices: Prices, step_ms: float, most: int) -> tuple[_Costs, int]:
    counts = range(LONGEST_DRAFT + 2)
    passes = [prices.pass_ms(width) for width in range(1, most + 2)]
    row_ms = max(0.0, min((more - less for less, more in pairwise(passes)), default=0.0))
    pass_ms = min(took - width * row_ms for width, took in enumerate(passes, start=1))
    ways = tuple(map(prices.sending_ms, counts)), tuple(map(prices.answer_ms, counts))
    return _Costs(step_ms, pass_ms, row_ms, *ways), most


class _Queue(NamedTuple):
    """The target's newest pass, by the time since the epoch began and half a round trip."""

    begins_ms: float
    ends_ms: float

    def takes(self, costs: _Costs, arrives_ms: float, rows: int) -> _Queue:
        """With a proposal more: it shares a pass that has not begun."""
        if self.begins_ms > arrives_ms:
            return _Queue(self.begins_ms, self.ends_ms + rows * costs.row_ms)
        begins_ms = max(arrives_ms, self.ends_ms)
        return _Queue(begins_ms, begins_ms + costs.pass_ms + rows * costs.row_ms)


@lru_cache(maxsize=256)
def epochs_ms(costs: _Costs, most: int) -> tuple[float, ...]:
    """By tokens drafted, up to `most`, the least time of an epoch beside the latency of a round trip.

    All divisions into proposals are weighed. A queue whose newest pass begins later and ends earlier is as good
    for all that may follow.
    """
    best = [costs.up_ms[0] + costs.pass_ms + costs.row_ms + costs.down_ms[1]] + [float("inf")] * most
    queues: list[list[_Queue]] = [[] for _ in range(most + 1)]
    queues[0] = [_Queue(0.0, 0.0)]
    for sent in range(most):
        for queue in _undominated(queues[sent]):
            for length in range(1, min(LONGEST_DRAFT, most - sent) + 1):
                drafted = sent + length
                arrives_ms = drafted * costs.step_ms + costs.up_ms[length]
                last = queue.takes(costs, arrives_ms, length + 1)
                best[drafted] = min(best[drafted], last.ends_ms + costs.down_ms[length + 1])
                queues[drafted].append(queue.takes(costs, arrives_ms, length))
    return tuple(best)


def _undominated(queues: list[_Queue]) -> list[_Queue]:
    """Those queues than which none begins its newest pass later and ends it earlier."""
    found: list[_Queue] = []
    for queue in sorted(set(queues), key=lambda each: (each.ends_ms, -each.begins_ms)):
        if not found or queue.begins_ms > found[-1].begins_ms:
            found.append(queue)
    return found


@lru_cache(maxsize=4096)
def branches_of(text: Text) -> tuple[tuple[int, ...], ...]:
    """By position and by depth, the fewest nodes of a tree of which a path stands so far.

    Empty where the draft's likeliest tokens are unknown.
    """
    if not text.likely:
        return ()
    needed = [text.rank(position) + 1 for position in range(len(text.ids))]
    return tuple(
        tuple(
            takewhile(lambda nodes: nodes <= MOST_NODES, accumulate(needed[position : position + MOST_NODES]))
        )
        for position in range(len(needed))
    )


@lru_cache(maxsize=4096)
def lookups(text: Text, methods: tuple[Drafting, ...]) -> tuple[tuple[int, ...], ...]:
    """By method whose drafter needs no model, and by position, how many tokens it would get right in a row.

    None where the prompt is unknown.
    """
    if not text.prompt_ids:
        return ()
    found = []
    for method in methods:
        edge: Any = VirtualEdge(text, Timeline(ANY, VirtualClock()))
        drafter = method.drafter(edge, Options(Decoding(), Speculative()))
        if not edge.drafts:
            found.append(_runs(text, drafter))
    return tuple(found)


def _runs(text: Text, drafter: Drafter) -> tuple[int, ...]:
    drafter.begin(Request(text.prompt_ids, text.budget, text.stop_ids))
    runs = [0]
    for position in range(1, len(text.ids)):
        drafter.commit(text.ids[position - 1 : position], 0)
        runs.append(standing(drafter.propose(LONGEST_DRAFT), text.ids[position:]))
    return tuple(runs)
