"""What a million tokens cost, by measured time and the prices of a profile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from specbench.errors import ExitCode
from specbench.profile.loading import validated
from specbench.profile.price_list import PriceList
from specbench.results.records import Generation, Manifest
from specbench.results.spending import Money
from specbench.stats import intervals
from specbench.stats.verdict import FEWEST_PROMPTS

MILLION = 1e6


def prices_of(manifest: Manifest) -> PriceList:
    """The prices of a run's profile; none in older runs.

    Raises:
        SpecbenchError: the stored profile holds something else, as after an edit by hand.
    """
    stored = manifest.profile.get("prices", {})
    return validated(PriceList, stored, f"run {manifest.run_id}: prices", ExitCode.STORE)


def money(records: Sequence[Generation], prices: PriceList) -> Money | None:
    """The cost of a method's tokens; `None` where nothing has a price.

    Answers that the cloud has no part in are not charged for it. Where the cloud is in the edge's process, no
    frame is encoded, and the network is no part of the cost.
    """
    if not prices.is_set or not any(record.tokens for record in records):
        return None
    reserved = [prices.cost(each.total_ms / 1000, _held_s(each), _bytes(each)) for each in records]
    computed = [_computed_s(each) for each in records]
    shared = [
        prices.cost(each.total_ms / 1000, seconds, _bytes(each))
        for each, seconds in zip(records, computed, strict=True)
        if seconds is not None
    ]
    whole, whole_interval = _per_million(records, reserved)
    part, part_interval = _per_million(records, shared) if len(shared) == len(records) else (None, None)
    return Money(
        currency=prices.currency,
        reserved=whole,
        reserved_interval=whole_interval,
        shared=part,
        shared_interval=part_interval,
        unpriced=_left_out(records, prices),
        api=prices.api_per_million_tokens,
    )


def _held_s(record: Generation) -> float:
    return 0.0 if record.lossless is None else record.total_ms / 1000


def _computed_s(record: Generation) -> float | None:
    """How long the target computed, in all rounds; `None` where one does not say."""
    if record.lossless is None:
        return 0.0
    times = [0.0 if part.unverified and part.verify_ms is None else part.verify_ms for part in record.rounds]
    return sum(ms for ms in times if ms is not None) / 1000 if None not in times else None


def _left_out(records: Sequence[Generation], prices: PriceList) -> tuple[str, ...]:
    has_bytes = all(
        record.lossless is None or any(part.bytes_up is not None for part in record.rounds)
        for record in records
    )
    unpriced = prices.unpriced
    return unpriced if has_bytes or "network" in unpriced else (*unpriced, "network")


def _bytes(record: Generation) -> float:
    return sum((part.bytes_up or 0) + (part.bytes_down or 0) for part in record.rounds)


def _per_million(
    records: Sequence[Generation], costs: Sequence[float]
) -> tuple[float, tuple[float, float] | None]:
    """All costs over all tokens, and its 95 % interval over prompts; none below twelve of them.

    The interval is that of the ratio's linear form, whose mean over prompts is the ratio itself.
    """
    spent: dict[str, float] = {}
    tokens: dict[str, int] = {}
    category: dict[str, str] = {}
    for record, cost in zip(records, costs, strict=True):
        name = record.prompt_id
        spent[name] = spent.get(name, 0.0) + cost
        tokens[name] = tokens.get(name, 0) + len(record.tokens)
        category[name] = record.category
    total = sum(tokens.values())
    ratio = sum(spent.values()) / total
    if len(spent) < FEWEST_PROMPTS:
        return ratio * MILLION, None
    mean = total / len(tokens)
    linear = np.array([ratio + (spent[name] - ratio * tokens[name]) / mean for name in spent])
    low, high = intervals.bootstrap(linear, [category[name] for name in spent]).interval()
    return ratio * MILLION, (float(low) * MILLION, float(high) * MILLION)
