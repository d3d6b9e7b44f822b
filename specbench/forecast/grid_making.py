"""Grids without a run: a trace replayed, or a plan, under every combination of values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

from specbench.errors import SpecbenchError
from specbench.forecast.acceptance_files import imported
from specbench.forecast.acceptance_trace import read_trace
from specbench.forecast.assumed import Assumption, assumed_acceptance, assumptions
from specbench.forecast.grid import Grid, Row, grid, priced
from specbench.forecast.known import Known, of_file
from specbench.forecast.objectives import LEAST
from specbench.forecast.over import lengths_of, replayed_over, windowed_over
from specbench.forecast.plan import Forecast, alone, fastest, forecasts, spent_least
from specbench.forecast.replay import Length
from specbench.forecast.traced_drafter import texts_of
from specbench.forecast.variants import KEYS, RULE, demand_known, knowing, told, variants
from specbench.forecast.varied import demand_own, varied
from specbench.method import Method
from specbench.profile.cost_table import Costs, read_costs
from specbench.results.records import CONTROL


def replayed_grid(
    trace: Path,
    costs: Path,
    over: Mapping[str, list[object]],
    methods: Sequence[Method] = (),
    oracle: bool = False,
) -> Grid:
    """Methods replayed over a trace, with the costs of a table.

    Args:
        trace: of ours; or acceptance by position of another tool's, over which texts are drawn.
        over: values by key, as `parse_over` returns them.
        methods: all that know the trace's rule when empty.
        oracle: find each method's regret.

    Raises:
        SpecbenchError: a file cannot be read, or a key or value does not fit.
    """
    changes = replayed_over(over)
    lengths = lengths_of(changes)
    table = read_costs(costs)
    if imported(trace):
        return _replayed_file(trace, table, changes, lengths, methods, oracle)
    read = read_trace(trace)
    ruled: dict[str, list[object]] = {RULE: [read.verification], **changes}
    replayed = methods or knowing(ruled)
    demand_known(replayed, ruled)
    changed = variants(texts_of(read), read.texts, changes, read.profile)
    is_exact, label = told(read, changes)
    title = f"{len(read.texts)} texts, {label} · replayed with the costs of {table.description or costs}"
    rows = list(grid(changed, table, replayed, lengths, changes, oracle))
    return _grid(rows, title, {"trace": str(trace), "exact": is_exact}, table, assumptions(table, changes))


def _replayed_file(
    path: Path,
    table: Costs,
    changes: dict[str, list[object]],
    lengths: Sequence[Length],
    methods: Sequence[Method],
    oracle: bool,
) -> Grid:
    known = of_file(path)
    unknown = ["--oracle"] * oracle + [f"--over {key}" for key in KEYS if key in changes]
    if unknown:
        raise SpecbenchError(
            f"{unknown[0]} needs a trace, and {path} is acceptance by position, without texts",
            "make a trace with 'specbench trace'",
        )
    replayed = methods or knowing(changes)
    title = (
        f"{len(known.client_texts)} drawn texts, {known.label} · replayed with the costs of {table.description}"
    )
    rows = list(grid(known.replayed_texts, table, replayed, lengths, changes))
    assumed = [*assumed_acceptance(known), *assumptions(table, changes)]
    return _grid(rows, title, {"trace": str(path), "exact": False}, table, assumed)


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
    chances, changed = known.survival.conditional, windowed_over(over)
    demand_own(known.methods, changed)
    title = f"planned, acceptance {', '.join(f'{share:.2f}' for share in chances[:4])}"
    title += f" ({known.label})" if known.label else ""
    title += f" · {costs.description or 'costs by hand'}"
    head = {"conditional_acceptance": chances, "exact": known.is_exact}
    rows = list(planned_rows(known, costs, changed))
    assumed = [*assumed_acceptance(known), *(each for each in assumed if each.key not in changed)]
    made = _grid(rows, title, head, costs, assumed)
    return replace(made, notes=[*made.notes, *known.notes])


def _grid(rows: list, title: str, head: dict, costs: Costs, assumed: Sequence[Assumption]) -> Grid:
    head |= {"costs": costs.model_dump(mode="json"), "assumed": [asdict(each) for each in assumed]}
    return Grid(rows, title, head, [f"assumed: {each.text}" for each in assumed])


def planned_rows(known: Known, costs: Costs, over: Mapping[str, Sequence[object]]) -> Iterator[Row]:
    """The cloud alone, and every method at its best draft lengths, under every condition.

    Args:
        over: values by dotted key of the cost table, of `window`, how many proposals are in flight, and of
            `methods.NAME.KEY`, an option of a method's own.

    Raises:
        SpecbenchError: a key or value does not fit.
    """
    for values in product(*over.values()):
        condition = dict(zip(over, values, strict=True))
        prices = priced(costs, condition)
        base = alone(known, prices)
        base_ms, spent = base.ms_per_token, asdict(base.spent(prices.costs))
        yield Row(CONTROL, None, condition, None, base_ms, base_ms, 1.0, None, None, 0, **spent)
        for method in varied(known.methods, condition):
            for best in _bests(forecasts(known, prices, method)):
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
                    **asdict(best.spent),
                )


def _bests(found: Sequence[Forecast]) -> list[Forecast]:
    """The fastest draft length, and those that are cheapest and greenest where that is another."""
    others = [spent_least(found, name) for name in LEAST.values()]
    chosen = {each.draft_length: each for each in (fastest(found), *others) if each}
    return list(chosen.values())
