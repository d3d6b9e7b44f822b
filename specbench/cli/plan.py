"""`specbench plan`: what would each method take, before anything is bought or run?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.options import (
    A_RUN,
    RUNS_DIR,
    HtmlOption,
    JsonOption,
    MapsOption,
    PluginOption,
    RunsDirOption,
    demand_alone,
    demand_maps,
)
from specbench.errors import ExitCode, SpecbenchError

if TYPE_CHECKING:
    from specbench.forecast.assumed import Assumption
    from specbench.forecast.known import Known
    from specbench.method import Method
    from specbench.profile.cost_table import Costs
    from specbench.results.records import Run


EXAMPLES = (
    "specbench plan --acceptance 0.8,0.7,0.65 --step-ms 30 --set link.rtt_ms=40",
    "specbench plan --run latest --over link.rtt_ms=0,20,100",
)


def plan(
    trace: Annotated[
        Path | None,
        typer.Option("--trace", metavar="FILE", help="Take acceptance from a trace of 'specbench trace'."),
    ] = None,
    acceptance: Annotated[
        str | None,
        typer.Option(
            "--acceptance",
            metavar="A1,A2,...",
            help="Probability that the 1st, 2nd, ... drafted token is accepted, given that all before it were.",
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            metavar="RUN",
            help=f"Take acceptance and costs from the method speculative of a stored run: {A_RUN}.",
        ),
    ] = None,
    costs: Annotated[
        Path | None,
        typer.Option("--costs", metavar="FILE", help="Cost table, of 'specbench limits' or written by hand."),
    ] = None,
    step_ms: Annotated[
        float | None,
        typer.Option(
            "--step-ms", metavar="MS", help="Target step time in milliseconds (default: the run's, else 30)."
        ),
    ] = None,
    cost_ratio: Annotated[
        float | None,
        typer.Option(
            "--cost-ratio",
            metavar="X",
            help="Draft step time as a fraction of a target step (default: the run's, else 0.1).",
        ),
    ] = None,
    width_cost: Annotated[
        float | None,
        typer.Option(
            "--width-cost",
            metavar="X",
            help="Cost of each additional verified token, as a fraction of a target step (default: the run's, "
            "else 0.02).",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override one value of the cost table, such as link.rtt_ms=40."
        ),
    ] = None,
    objective_ms: Annotated[
        float | None,
        typer.Option(
            "--objective-ms",
            metavar="MS",
            min=0.0,
            help="Also show how many clients one target serves if 95 % of texts keep to this time per token.",
        ),
    ] = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over",
            metavar="KEY=VALUES",
            help="Vary window or a value of the cost table and show a map: link.rtt_ms=0,20,100. Repeatable.",
        ),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="METHOD",
            help="Method to plan (default: all that draft with the edge model). Repeatable.",
        ),
    ] = None,
    plugin: PluginOption = None,
    html: HtmlOption = None,
    charts: MapsOption = None,
    runs_dir: RunsDirOption = RUNS_DIR,
    as_json: JsonOption = False,
) -> None:
    """Predict time per token, best draft length, break-even round trip and clients per target."""
    from dataclasses import asdict

    from specbench.forecast.assumed import assumed_texts, assumptions, by_numbers
    from specbench.forecast.plan import planned, served_by, verdicts
    from specbench.forecast.window_form import window_lines, with_windows
    from specbench.profile.cost_table import read_costs
    from specbench.profile.loading import overriding
    from specbench.registry import discover
    from specbench.render import console
    from specbench.render.forecasts import assumed_lines, plan_document, plan_table, served_lines
    from specbench.results.records import CONTROL
    from specbench.stats.measured_costs import run_costs
    from specbench.stats.prices import Prices

    if sum(given is not None for given in (trace, acceptance, run)) != 1:
        raise SpecbenchError(
            "a plan needs exactly one of --run, --trace and --acceptance",
            "for example --acceptance 0.8,0.7,0.65",
        )
    by_hand = {"--step-ms": step_ms, "--cost-ratio": cost_ratio, "--width-cost": width_cost}
    if (html or charts) and not over:
        raise SpecbenchError(
            "--html and --charts write the map of --over, which is missing", "add --over link.rtt_ms=0,20,100"
        )
    demand_alone("--over" if over else "", {"--objective-ms": objective_ms})
    demand_maps(html, charts)
    demand_alone("--costs" if costs else "", {name: value is not None for name, value in by_hand.items()})
    stored = _stored(run, runs_dir)
    registry = discover(plugin or ())
    known = _known(trace, acceptance, stored, [registry.get(name) for name in methods or ()])
    if costs:
        table = read_costs(costs)
        assumed = assumptions(table)
    else:
        table, assumed = by_numbers(run_costs(stored) if stored else None, step_ms, cost_ratio, width_cost)
    values = dict(overriding(overrides or (), "link.rtt_ms=40"))
    assumed = [each for each in assumed if each.key not in values]
    prices = Prices(table.with_values(values))
    if over:
        _map(known, prices.costs, over, assumed, html, charts, as_json)
        return
    assumed += assumed_texts(prices.costs, bool(known.texts)) if objective_ms else []
    plans, windows = planned(known, prices), with_windows(known, prices)
    lines, served = [*verdicts(plans, known, prices), *window_lines(windows)], {}
    if objective_ms:
        asked = (registry.get(CONTROL), *known.methods)
        served = {method.name: served_by(known, prices, method, objective_ms) for method in asked}
    if as_json:
        document = plan_document(known, prices, plans, lines, served)
        for name, found in windows.items():
            document["methods"][name]["windows"] = asdict(found)
        console.print_json({"exact": known.is_exact, **document, "assumed": [asdict(each) for each in assumed]})
        return
    console.out.print(plan_table(known, prices, plans, lines))
    for line in [*served_lines(served, objective_ms or 0.0), *assumed_lines(table.description, assumed)]:
        console.out.print(line, markup=False)


def _map(
    known: Known,
    costs: Costs,
    over: list[str],
    assumed: list[Assumption],
    html: Path | None,
    charts: Path | None,
    as_json: bool,
) -> None:
    """The plan over a grid: where each method would win."""
    from dataclasses import asdict

    from specbench.cli.replay import show_grid
    from specbench.forecast.over import parse_over, windowed_over
    from specbench.forecast.plan import planned_rows

    chances, varied = known.survival.conditional, windowed_over(parse_over(over))
    assumed = [each for each in assumed if each.key not in varied]
    rows = list(planned_rows(known, costs, varied))
    title = f"planned, acceptance {', '.join(f'{share:.2f}' for share in chances[:4])}"
    title += f" ({known.label})" if known.label else ""
    title += f" · {costs.description or 'costs by hand'}"
    head = {"conditional_acceptance": chances, "exact": known.is_exact, "costs": costs.model_dump(mode="json")}
    head["assumed"] = [asdict(each) for each in assumed]
    show_grid(rows, title, head, html, charts, as_json, [f"assumed: {each.text}" for each in assumed])


def _stored(run: str | None, runs_dir: Path) -> Run | None:
    from specbench.results.store import RunStore

    if run is None:
        return None
    store = RunStore(runs_dir)
    stored = store.read(store.find(run))
    if stored.faults:
        raise SpecbenchError(
            f"cannot plan from run {run}: {stored.faults[0]}",
            f"restore the file, or repeat what is missing with 'specbench run --resume {run}'",
            ExitCode.STORE,
        )
    return stored


def _known(trace: Path | None, acceptance: str | None, run: Run | None, methods: Sequence[Method]) -> Known:
    from specbench.forecast.acceptance_trace import read_trace
    from specbench.forecast.known import of_chances, of_records, of_trace

    if trace:
        return of_trace(read_trace(trace), methods)
    if run is None:
        return of_chances(_chances(acceptance or ""), methods)
    found = of_records(run.generations, methods)
    if found is None:
        raise SpecbenchError(
            f"run {run.manifest.run_id} holds no drafts of the method speculative",
            "choose a run of speculative, or pass --acceptance 0.8,0.7,0.65",
        )
    return found


def _chances(text: str) -> tuple[float, ...]:
    try:
        chances = tuple(float(part) for part in text.split(","))
    except ValueError:
        chances = (-1.0,)
    if not all(0 <= chance <= 1 for chance in chances):
        raise SpecbenchError(
            f"--acceptance {text} is not a list of probabilities between 0 and 1",
            "for example --acceptance 0.8,0.7,0.65",
        )
    return chances
