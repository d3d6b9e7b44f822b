"""Plans: whose acceptance is known, by which methods; their closed forms over a grid; clients on one target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from specbench.analysis import serving
from specbench.analysis.acceptance import acceptance
from specbench.analysis.clients import Script
from specbench.analysis.clock import Prices
from specbench.analysis.grid import DRAFT_LENGTHS, Row
from specbench.analysis.planning import (
    FORMS,
    Survival,
    alone_ms,
    fastest,
    forecasts,
    measured_survival,
    survival_of,
)
from specbench.analysis.schedule import Text, texts_of
from specbench.analysis.serving import Load
from specbench.analysis.variants import RULE, knowing, told
from specbench.bench.traces import Trace
from specbench.config.costs import Costs
from specbench.records import CONTROL, Generation


@dataclass(frozen=True)
class Known:
    """What a plan is made from.

    Args:
        methods: those that know the rule by which drafts were accepted.
        texts: of a trace.
        is_exact: whether real runs accept as that does; `None` without one. `label` says it in words.
    """

    survival: Survival
    methods: Sequence[str] = tuple(FORMS)
    texts: Sequence[Text] = ()
    is_exact: bool | None = None
    label: str = ""


def of_trace(trace: Trace) -> Known:
    """What a trace says; of texts long enough to time."""
    texts, methods = texts_of(trace), knowing({RULE: [trace.verification]})
    return Known(measured_survival(texts), methods, texts, *told(trace, {}))


def of_records(records: Sequence[Generation]) -> Known | None:
    """What a run's answers say; `None` where `speculative` drafted nothing."""
    mine = [each for each in records if each.method == "speculative"]
    found = acceptance(mine)
    survival = found and survival_of(found)
    if survival is None:
        return None
    rules = {each.verification for each in mine if each.verification}
    return Known(survival, knowing({RULE: list(rules)}))


def served_by(known: Known, prices: Prices, method: str, objective_ms: float) -> tuple[int, Load | None]:
    """The most clients of one target that keep to a time per token, and by which draft length."""

    def work_of(length: int) -> Sequence[Script]:
        if known.texts:
            return serving.scripts(known.texts, length)
        return serving.drawn_scripts(known.survival.conditional, length)

    lengths = [0]
    if method != CONTROL:
        best = fastest(forecasts(known.survival, prices, method)).draft_length or 1
        lengths = [best, *DRAFT_LENGTHS]
    return serving.most_served(work_of, prices, method, lengths, objective_ms)


def planned_rows(
    survival: Survival,
    costs: Costs,
    over: Mapping[str, Sequence[object]],
    methods: Sequence[str] = tuple(FORMS),
) -> Iterator[Row]:
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
        for method in methods:
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
