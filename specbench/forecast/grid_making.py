"""Grids without a run: a trace replayed, or a plan, under every combination of values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

from specbench.forecast.acceptance_trace import read_trace
from specbench.forecast.assumed import Assumption, assumptions
from specbench.forecast.grid import Grid, Row, grid
from specbench.forecast.known import Known
from specbench.forecast.over import lengths_of, replayed_over, windowed_over
from specbench.forecast.plan import alone_ms, fastest, forecasts
from specbench.forecast.traced_drafter import texts_of
from specbench.forecast.variants import RULE, demand_known, knowing, told, variants
from specbench.forecast.windowed import WINDOW, windows
from specbench.method import Method
from specbench.profile.cost_table import Costs, read_costs
from specbench.results.records import CONTROL
from specbench.stats.prices import Prices


def replayed_grid(
    trace: Path,
    costs: Path,
    over: Mapping[str, list[object]],
    methods: Sequence[Method] = (),
    oracle: bool = False,
) -> Grid:
    """Methods replayed over a trace, with the costs of a table.

    Args:
        over: values by key, as `parse_over` returns them.
        methods: all that know the trace's rule when empty.
        oracle: find each method's regret.

    Raises:
        SpecbenchError: a file cannot be read, or a key or value does not fit.
    """
    varied = replayed_over(over)
    lengths = lengths_of(varied)
    table, read = read_costs(costs), read_trace(trace)
    ruled: dict[str, list[object]] = {RULE: [read.verification], **varied}
    replayed = methods or knowing(ruled)
    demand_known(replayed, ruled)
    changed = variants(texts_of(read), read.texts, varied, read.profile)
    is_exact, label = told(read, varied)
    title = f"{len(read.texts)} texts, {label} · replayed with the costs of {table.description or costs}"
    rows = list(grid(changed, table, replayed, lengths, varied, oracle))
    return _grid(rows, title, {"trace": str(trace), "exact": is_exact}, table, assumptions(table, varied))


def planned_grid(
    known: Known, costs: Costs, over: Mapping[str, list[object]], assumed: Sequence[Assumption]
) -> Grid:
    """A plan under every condition: each method at its best draft length.

    Args:
        over: values by key, as `parse_over` returns them.
        assumed: what is assumed in the costs; what is varied is not.

    Raises:
        SpecbenchError: a key or value does not fit.
    """
    chances, varied = known.survival.conditional, windowed_over(over)
    title = f"planned, acceptance {', '.join(f'{share:.2f}' for share in chances[:4])}"
    title += f" ({known.label})" if known.label else ""
    title += f" · {costs.description or 'costs by hand'}"
    head = {"conditional_acceptance": chances, "exact": known.is_exact}
    rows = list(planned_rows(known, costs, varied))
    made = _grid(rows, title, head, costs, [each for each in assumed if each.key not in varied])
    return replace(made, notes=[*made.notes, *known.notes])


def _grid(rows: list, title: str, head: dict, costs: Costs, assumed: Sequence[Assumption]) -> Grid:
    head |= {"costs": costs.model_dump(mode="json"), "assumed": [asdict(each) for each in assumed]}
    return Grid(rows, title, head, [f"assumed: {each.text}" for each in assumed])


def planned_rows(known: Known, costs: Costs, over: Mapping[str, Sequence[object]]) -> Iterator[Row]:
    """The cloud alone, and every method at its best draft length, under every condition.

    Args:
        over: values by dotted key of the cost table, and of `window`, how many proposals are in flight.

    Raises:
        SpecbenchError: a key or value does not fit.
    """
    for values in product(*over.values()):
        condition = dict(zip(over, values, strict=True))
        table = {key: value for key, value in condition.items() if key != WINDOW}
        prices = Prices(costs.with_values(table) if table else costs)
        base_ms = alone_ms(known, prices)
        yield Row(CONTROL, None, condition, None, base_ms, base_ms, 1.0, None, None, 0)
        for method in windows(known.methods, condition.get(WINDOW, 1)):
            best = fastest(forecasts(known, prices, method))
            length, tokens = best.draft_length, best.tokens_per_round
            yield Row(
                method=method.name,
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
