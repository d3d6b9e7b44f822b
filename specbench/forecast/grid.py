"""Many conditions replayed: every method and draft length, over a grid of the cost table's values."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product

from specbench.errors import SpecbenchError
from specbench.forecast import serving
from specbench.forecast.oracle import Bound
from specbench.forecast.replay import Length, Timed, known_method, replay, spent
from specbench.forecast.traced_drafter import Text
from specbench.forecast.variants import KEYS, demand_known
from specbench.forecast.varied import OWN, WINDOW, varied
from specbench.method import Method
from specbench.profile.cost_table import Costs
from specbench.results.records import CONTROL
from specbench.stats.prices import Prices

CLIENTS = "clients"


@dataclass(frozen=True)
class Row:
    """One method under one condition.

    Args:
        draft_length: `None` for the cloud alone.
        condition: the values of the cost table that were varied, by dotted key.
        ttft_ms: median over texts; `None` where the cost table says nothing of prompts. `tpot_ms` likewise.
        ms_per_token: all decoding time over all tokens behind the first of each text.
        speedup: of the time per token against the cloud alone, ratio of geometric means over texts.
        acceptance_length: tokens a verification commits.
        interval: of the speed-up, where it was measured on prompts enough; corrected (Holm) over the draft
            lengths of the same method and condition, of which the best is picked.
        measured: and not replayed, which is exact.
        lossless: as of `Method.lossless`; `None` for a text that is not the cloud's, which wins nothing.
        bugs: as of `MethodSummary`; with one, `lossless` is `None`.
        regret: its decoding time over the oracle's (`forecast.oracle`), ratio of geometric means over texts;
            where that was asked for.
        joules_per_token: as the figures behind it modelled (`forecast.spending.Modelled`), or measured where
            the row is: by counters that cover edge and cloud, prefill included.
        cost_per_million: of a measured row with the cloud paid for the time it computes (`Money.shared`).
    """

    method: str
    draft_length: Length | None
    condition: dict[str, object]
    ttft_ms: float | None
    tpot_ms: float
    ms_per_token: float
    speedup: float
    acceptance_length: float | None
    acceptance_rate: float | None
    wasted_tokens: int
    interval: tuple[float, float] | None = None
    measured: bool = False
    lossless: bool | None = True
    bugs: int = 0
    regret: float | None = None
    joules_per_token: float | None = None
    edge_joules_per_token: float | None = None
    cloud_joules_per_token: float | None = None
    cost_per_million: float | None = None

    @property
    def competes(self) -> bool:
        """Whether it is to be held against the cloud alone: another way to the cloud's text."""
        return self.method != CONTROL and self.lossless is not None

    @property
    def is_open(self) -> bool:
        """Whether it cannot be told from the cloud alone, or says what is wrong."""
        if self.bugs:
            return True
        if self.method == CONTROL or not self.measured:
            return False
        return self.interval is None or self.interval[0] <= 1 <= self.interval[1]

    @property
    def pays(self) -> bool:
        """Whether it is faster than the cloud alone, beyond doubt where it was measured."""
        return self.speedup > 1 and not self.is_open

    @property
    def rank(self) -> tuple[bool, bool, float]:
        """The higher, the better beside other draft lengths."""
        return not self.bugs, self.pays, self.speedup


@dataclass(frozen=True)
class Grid:
    """The rows of a sweep, a replay or a plan, and what is told beside them.

    Args:
        head: what the rows were made of, for JSON.
        notes: what to know beside the rows, a sentence each.
    """

    rows: Sequence[Row]
    title: str
    head: Mapping[str, object]
    notes: Sequence[str] = ()


def grid(
    texts: Sequence[Text] | Callable[[Mapping[str, object]], Sequence[Text]],
    costs: Costs,
    methods: Sequence[str | Method],
    lengths: Sequence[Length],
    over: Mapping[str, Sequence[object]],
    oracle: bool = False,
) -> Iterator[Row]:
    """Replay every method at every draft length under every condition; the cloud alone comes first each time.

    Args:
        texts: one of two tokens at least; or what they are under each condition.
        over: values by dotted key of the cost table; of those of `variants`, which change the texts; of
            `clients`, how many edges share the target; of `window`, how many proposals are in flight; of
            `methods.NAME.KEY`, an option of a method's own.
        oracle: find the regret of each row.

    Raises:
        SpecbenchError: a key or value does not fit.
    """
    demand_known(methods, over)
    if oracle and CLIENTS in over:
        raise SpecbenchError("the oracle has the target to itself", "leave out --oracle, or clients")
    for values in product(*over.values()):
        condition = dict(zip(over, values, strict=True))
        table = {key: value for key, value in condition.items() if key not in (*KEYS, CLIENTS)}
        prices = priced(costs, table)
        known, clients = texts(condition) if callable(texts) else texts, condition.get(CLIENTS)
        control = _timed(known, prices, CONTROL, 1, clients)
        shown = varied([known_method(method) for method in methods], condition)
        bound = Bound(shown) if oracle else None
        least_ms = [bound.decode_ms(text, prices) for text in known] if bound else []
        yield _row(CONTROL, None, condition, control, control, least_ms, prices.costs)
        for method, length in product(shown, lengths):
            timed = _timed(known, prices, method, length, clients)
            yield _row(method.name, length, condition, timed, control, least_ms, prices.costs)


def priced(costs: Costs, condition: Mapping[str, object]) -> Prices:
    """The prices of a table with the values of a condition that are not a method's.

    Raises:
        SpecbenchError: a key is none of the table, or a value none of its key.
    """
    table = {key: value for key, value in condition.items() if key != WINDOW and not key.startswith(OWN)}
    return Prices(costs.with_values(table) if table else costs)


def _timed(
    texts: Sequence[Text], prices: Prices, method: str | Method, length: Length, clients: object
) -> Sequence[Timed]:
    """Texts by one schedule; or, with `clients`, as asked by so many edges of one target.

    Raises:
        SpecbenchError: no fixed draft length, or no number of clients.
    """
    if clients is None:
        return replay(texts, prices, method, length)
    if type(clients) is not int or not 1 <= clients <= serving.MOST_CLIENTS:
        raise SpecbenchError(f"clients: {clients!r} is not a number from 1 to {serving.MOST_CLIENTS}")
    if length == "auto":
        raise SpecbenchError(
            "with several clients, draft length auto cannot be replayed", "use fixed draft lengths"
        )
    found = known_method(method)
    return serving.simulate(serving.scripts(texts, prices, found, length), prices, clients).timed


def _row(
    method: str,
    length: Length | None,
    condition: dict,
    timed: Sequence[Timed],
    control: Sequence[Timed],
    least_ms: Sequence[float],
    costs: Costs,
) -> Row:
    each = [(one, base) for one, base in zip(timed, control, strict=True) if one.tokens > 1]
    tpots = [one.decode_ms / (one.tokens - 1) for one, _ in each]
    ttfts = [one.ttft_ms for one in timed if one.ttft_ms is not None]
    following, rounds = sum(one.tokens - 1 for one in timed), sum(one.drafting_rounds for one in timed)
    committed = sum(one.drafting_tokens for one in timed)
    drafted = sum(one.drafted for one in timed)
    ratios = [base.decode_ms / one.decode_ms for one, base in each if one.decode_ms > 0]
    regrets = [one.decode_ms / least for one, least in zip(timed, least_ms, strict=False) if least > 0]
    return Row(
        method=method,
        draft_length=length,
        condition=condition,
        ttft_ms=statistics.median(ttfts) if ttfts else None,
        tpot_ms=statistics.median(tpots),
        ms_per_token=sum(one.decode_ms for one in timed) / following,
        speedup=_geometric_mean(ratios) if ratios else 1.0,
        acceptance_length=committed / rounds if rounds else None,
        acceptance_rate=sum(one.accepted for one in timed) / drafted if drafted else None,
        wasted_tokens=sum(one.wasted for one in timed),
        regret=_geometric_mean(regrets) if regrets else None,
        **asdict(spent(timed, costs, condition.get(CLIENTS))),
    )


def _geometric_mean(values: Sequence[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def best(rows: Sequence[Row]) -> list[dict[str, Row]]:
    """Of each condition, in the order given: by method, its fastest draft length.

    One that pays goes first, one that says what is wrong last.
    """
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        known = found.setdefault(json.dumps(list(row.condition.values())), {})
        other = known.get(row.method)
        if other is None or row.rank > other.rank:
            known[row.method] = row
    return list(found.values())


def winner(by_method: Mapping[str, Row]) -> Row | None:
    """The fastest that pays and says the cloud's text; else the cloud alone, or `None` where one is open."""
    rows = [row for row in by_method.values() if row.lossless is not None]
    if paying := [row for row in rows if row.pays]:
        return max(paying, key=lambda row: row.speedup)
    return None if any(row.is_open for row in rows) else by_method.get(CONTROL)
