"""What a mean round of a method commits, and what its time is spent on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from specbench.forecast.events import Event, Streamed, charges_of
from specbench.forecast.known import Known
from specbench.forecast.replay import Kind, kinds
from specbench.forecast.spending import Modelled, Use, modelled, use_of
from specbench.forecast.varied import Varied
from specbench.method import Method
from specbench.profile.cost_table import Costs
from specbench.stats.acceptance import Survival
from specbench.stats.prices import Prices


class MeanRound(NamedTuple):
    """Tokens of a mean round, its milliseconds by what they are spent on, and what it uses where asked."""

    tokens: float
    terms: dict[str, float]
    use: Use | None

    @property
    def ms_per_token(self) -> float:
        """What a token takes."""
        return sum(self.terms.values()) / self.tokens

    def spent(self, costs: Costs) -> Modelled:
        """What a token takes in energy and money, modelled."""
        return modelled(self.use, sum(self.terms.values()), self.tokens, costs)


def mean_round(known: Known, prices: Prices, method: Method, draft_length: int) -> MeanRound:
    """The mean of all rounds of a method at a draft length."""
    in_flight = isinstance(method, Varied) and method.is_windowed
    found = [
        (kind, count, ms)
        for text in (known.windowed_texts if in_flight else known.planned_texts)
        for kind, count, ms in kinds(text, prices, method, draft_length)
    ]
    weights = {} if known.texts or in_flight else _weights(known.survival, found)
    total = tokens = 0.0
    terms: dict[str, float] = {}
    weighted = []
    for kind, count, ms in found:
        first, *more = kind.outcomes
        weight = count * (1.0 if more else weights.get((first.drafted, first.accepted), 1.0))
        total += weight * len(kind.outcomes)
        if weights and first.drafted and not more:
            tokens += weight * known.survival.tokens(first.drafted)
        else:
            tokens += weight * sum(one.committed for one in kind.outcomes)
        for name, took in _terms(kind.events, ms, prices).items():
            terms[name] = terms.get(name, 0.0) + weight * took
        weighted.append((kind.events, weight))
    use = use_of(weighted, prices).times(1 / total) if prices.costs.is_spending_known else None
    return MeanRound(tokens / total, {name: took / total for name, took in terms.items()}, use)


def _weights(survival: Survival, found: Sequence[tuple[Kind, int, float]]) -> dict[tuple, float]:
    """By drafted and accepted tokens, how much a drawn round counts for each to have its exact chance."""
    counts: Counter[tuple] = Counter()
    for (outcomes, _), count, _ in found:
        if len(outcomes) == 1 and outcomes[0].drafted:
            counts[outcomes[0].drafted, outcomes[0].accepted] += count
    weights: dict[tuple, float] = {}
    for drafted in {drafted for drafted, _ in counts}:
        curve = [1.0, *survival.curve(drafted), 0.0]
        chances = {key: curve[key[1]] - curve[key[1] + 1] for key in counts if key[0] == drafted}
        scale = sum(counts[key] for key in chances) / sum(chances.values())
        weights |= {key: scale * chance / counts[key] for key, chance in chances.items()}
    return weights


def _terms(events: Sequence[Event], ms: float, prices: Prices) -> dict[str, float]:
    """A round's time by what it was spent on; drafting is what no other part explains."""
    found = {"verification": 0.0, "round trip": 0.0, "bytes": 0.0, "other": 0.0}
    for charge in charges_of(events):
        if charge.kind == "pass":
            found["verification"] += prices.of(charge)
        elif charge.kind in ("round", "stream"):
            found["other"] += prices.of(charge)
        elif charge.kind == "trip":
            found["round trip"] += prices.rtt_ms + prices.overhead_ms
            found["bytes"] += prices.of(charge) - prices.rtt_ms - prices.overhead_ms
    for event in events:
        if isinstance(event, Streamed):
            found["bytes"] += max(0.0, prices.of(event.answer) - prices.sum_of(event.work))
    named_ms = sum(found.values())
    if named_ms > ms:  # several requests are open, and their times overlap
        found = {name: took * ms / named_ms for name, took in found.items()}
    return {"draft": max(0.0, ms - named_ms), **found}
