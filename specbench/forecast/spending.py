"""What tokens take in energy and money by a cost table's power model and prices: modelled, never measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from specbench.forecast.events import Event, charges_of
from specbench.profile.cost_table import Costs
from specbench.stats.prices import Prices

ON_THE_EDGE, ON_THE_TARGET = ("draft",), ("pass", "draft there")


class Use(NamedTuple):
    """Milliseconds in which the draft computed on the edge and the target in the cloud, and bytes sent."""

    draft_ms: float = 0.0
    target_ms: float = 0.0
    sent_bytes: float = 0.0

    def plus(self, other: Use) -> Use:
        """The sum of both."""
        return Use(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def times(self, factor: float) -> Use:
        """So many of it."""
        return Use(*(factor * mine for mine in self))


def use_of(rounds: Iterable[tuple[Iterable[Event], float]], prices: Prices) -> Use:
    """What rounds use, each so many times; wasted drafts and passes included."""
    draft_ms = target_ms = sent = 0.0
    for events, times in rounds:
        for charge in charges_of(events):
            if charge.kind in ON_THE_EDGE:
                draft_ms += times * prices.of(charge)
            elif charge.kind in ON_THE_TARGET:
                target_ms += times * prices.of(charge)
            else:
                sent += times * prices.bytes_of(charge)
    return Use(draft_ms, target_ms, sent)


@dataclass(frozen=True)
class Modelled:
    """What tokens take, modelled; `None` where the cost table has no power model, or no prices.

    Args:
        edge_joules_per_token: the edge's idle power all the time, the draft's where it computes, the radio.
        cloud_joules_per_token: the target's power where it computes; of a cloud with a number of clients also
            its idle power else.
        cost_per_million: tokens, in the currency of the table's prices.
    """

    joules_per_token: float | None = None
    edge_joules_per_token: float | None = None
    cloud_joules_per_token: float | None = None
    cost_per_million: float | None = None


def modelled(
    use: Use | None, wall_ms: float, tokens: float, costs: Costs, clients: int | None = None
) -> Modelled:
    """What tokens take of which one edge waits for `wall_ms`.

    Args:
        clients: edges that have the cloud for themselves, and pay for its idle time in equal parts; without
            them each pays for what is computed for it, as if others filled the rest.
    """
    if use is None or not tokens:
        return Modelled()
    wall_s, draft_s, target_s = wall_ms / 1000, use.draft_ms / 1000, use.target_ms / 1000
    held_s = wall_s / clients if clients else target_s
    edge = cloud = cost = None
    if (power := costs.power) is not None:
        edge = (
            power.edge_idle_w * wall_s
            + (power.draft_w - power.edge_idle_w) * draft_s
            + power.radio_j_per_byte * use.sent_bytes
        ) / tokens
        cloud = (power.verify_w * target_s + power.cloud_idle_w * max(0.0, held_s - target_s)) / tokens
    if costs.prices is not None and costs.prices.is_set:
        cost = costs.prices.cost(wall_s, held_s, use.sent_bytes) / tokens * 1e6
    total = edge + cloud if edge is not None and cloud is not None else None
    return Modelled(total, edge, cloud, cost)
