"""Cost tables from stored runs: what each part of a round took there."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from specbench.engine.rereading import passes
from specbench.profile import LinkSpec
from specbench.profile.cost_table import Bytes, Costs, DraftCosts, LinkCosts, TargetCosts
from specbench.results.records import CONTROL, Generation, Manifest, Round, Run
from specbench.stats.acceptance import drafting_rounds
from specbench.stats.money import prices_of
from specbench.stats.prices import Charge, Prices
from specbench.stats.topology import round_trip_ms

ENOUGH = 10  # rounds of one width, the fewest that its time is taken from
PLANNED = "speculative", "speculative_eagle"
"""The methods whose rounds a plan is made from, the first that a run has: they draft a chain and wait."""


def planned_from(records: Sequence[Generation]) -> list[Generation]:
    """The answers that a plan is made from."""
    found = {each.method for each in records}
    chosen = next((name for name in PLANNED if name in found), None)
    return [each for each in records if each.method == chosen]


def timed_rounds(records: Sequence[Generation]) -> list[Round]:
    """Rounds that drafted and were verified, both with their times."""
    return [part for part in drafting_rounds(records) if part.draft_ms and part.verify_ms]


def costs_of(manifest: Manifest, records: Sequence[Generation], rounds: Sequence[Round]) -> Costs:
    """Medians over rounds of one method, at least one; the round trip is measured where none was set."""
    by_width: dict[int, list[float]] = defaultdict(list)
    for part in rounds:
        if _width(part):
            by_width[_width(part)].append(part.verify_ms or 0.0)
    link = LinkSpec(**manifest.profile.get("link", {}))
    rtt_ms = link.rtt_ms
    if link.trace or not link.is_set:
        rtt_ms = round_trip_ms([Run(manifest, tuple(records))]) or 0.0
    found = Costs(
        draft=DraftCosts(step_ms=statistics.median(_step_ms(part) for part in rounds), read_ms=0.0),
        target=TargetCosts(
            verify_ms={width: statistics.median(times) for width, times in sorted(by_width.items())},
            restores_state=any(part.replayed_tokens for part in rounds),
        ),
        link=LinkCosts(rtt_ms=rtt_ms, uplink_mbps=link.uplink_mbps, downlink_mbps=link.downlink_mbps),
    )
    sizes = _bytes(rounds)
    return found.model_copy(update={"bytes": sizes}) if sizes else found


def run_costs(run: Run) -> Costs | None:
    """What the method of `planned_from` and the control took in a run, as a plan asks it.

    Values that the run says nothing of are left unset. A step of the target alone is the control's; without a
    control `target.verify_ms` has no entry for one token, unless drafts of no length gave it.

    Returns:
        `None` where no round of the method was timed.
    """
    records = [each for each in planned_from(run.generations) if not each.interrupted]
    rounds = timed_rounds(records)
    if not rounds:
        return None
    widths = [_width(part) for part in rounds]
    often = [part for part, width in zip(rounds, widths, strict=True) if widths.count(width) >= ENOUGH]
    found = costs_of(run.manifest, records, often if any(map(_width, often)) else rounds)
    control = _of(run, CONTROL)
    alone = [part.verify_ms for record in control for part in record.rounds[1:] if part.verify_ms]
    verify_ms = {**found.target.verify_ms, **({1: statistics.median(alone)} if alone else {})}
    times = Prices(found)
    trips = [
        part.link_ms - times.of(Charge("trip", part.drafted or 0, len(part.tokens)))
        for part in rounds
        if part.link_ms is not None
    ]
    rest = list(_rest_ms(records))
    beside: dict[str, object] = {"round_ms": max(0.0, statistics.median(rest))} if rest else {}
    if alone:
        beside["stream_ms"] = max(0.0, statistics.median(_stream_ms(control)))
    there = [_step_ms(part) for part in timed_rounds(_of(run, "speculative_colocated"))]
    if there:
        beside["colocated_step_ms"] = statistics.median(there)
    prices = prices_of(run.manifest)
    if prices.is_set:
        beside["prices"] = prices
    overhead_ms = max(0.0, statistics.median(trips)) if trips else 0.0
    return found.model_copy(
        update={
            "description": f"run {run.manifest.run_id}",
            "target": found.target.model_copy(update={"verify_ms": verify_ms}),
            "link": found.link.model_copy(update={"overhead_ms": overhead_ms}),
            **beside,
        }
    )


def _of(run: Run, method: str) -> list[Generation]:
    return [each for each in run.generations if each.method == method and not each.interrupted]


def _width(part: Round) -> int:
    """Tokens of the target's pass; 0 where it was another round's, or there were two."""
    new = (part.drafted or 0) + 1 if part.pass_tokens is None else part.pass_tokens
    widths = passes(part.replayed_tokens or 0, new)
    return widths[0] if new and len(widths) == 1 else 0


def _step_ms(part: Round) -> float:
    return (part.draft_ms or 0.0) / ((part.drafted or 0) + (part.wasted_draft_tokens or 0))


def _rest_ms(records: Sequence[Generation]) -> Iterator[float]:
    """What rounds took besides drafting, link and verification."""
    for record in records:
        for part, (before, after) in zip(record.rounds[1:], pairwise(record.arrival_ms), strict=True):
            if part.draft_ms and part.verify_ms and part.epoch is None:
                yield after - before - part.draft_ms - part.verify_ms - (part.link_ms or 0.0)


def _stream_ms(records: Sequence[Generation]) -> Iterator[float]:
    """What the steps of the control took besides the target's computing."""
    for record in records:
        for part, (before, after) in zip(record.rounds[1:], pairwise(record.arrival_ms), strict=True):
            if part.verify_ms:
                yield after - before - part.verify_ms


def _bytes(rounds: Sequence[Round]) -> Bytes | None:
    """What a run's own messages came to, a token; `None` where a round did not count them."""
    if any(part.bytes_up is None or part.bytes_down is None for part in rounds):
        return None
    return Bytes(
        per_message=0,
        up_per_token=sum(part.bytes_up or 0 for part in rounds) / sum(part.drafted or 0 for part in rounds),
        down_per_token=sum(part.bytes_down or 0 for part in rounds) / sum(len(part.tokens) for part in rounds),
    )
