"""Closed forms over a grid of cost tables, as the rows that a replay or a measured sweep gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from specbench.analysis.clock import Prices
from specbench.analysis.grid import Row
from specbench.analysis.planning import FORMS, Survival, alone_ms, fastest, forecasts
from specbench.config.costs import Costs
from specbench.records import CONTROL


def planned_rows(survival: Survival, costs: Costs, over: Mapping[str, Sequence[object]]) -> Iterator[Row]:
    """The cloud alone, and every method at its best draft length, under every condition.

    Args:
        over: values by dotted key of the cost table.

    Raises:
        SpecbenchError: a key or value does not fit.
    """
    for values in product(*over.values()):
        condition = dict(zip(over, values, strict=True))
        prices = Prices(costs.with_values(condition))
        base_ms = alone_ms(prices)
        yield Row(CONTROL, None, condition, None, base_ms, base_ms, 1.0, None, None, 0)
        for method in FORMS:
            best = fastest(forecasts(survival, prices, method))
            length, tokens = best.draft_length, best.tokens_per_round
            yield Row(
                method=method,
                draft_length=length,
                condition=condition,
                ttft_ms=None,
                tpot_ms=best.ms_per_token,
                ms_per_token=best.ms_per_token,
                speedup=best.speedup,
                acceptance_length=tokens,
                acceptance_rate=(tokens - 1) / length if length else None,
                wasted_tokens=0,
            )
