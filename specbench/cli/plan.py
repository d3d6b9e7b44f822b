"""`specbench plan`: what would each method take, before anything is bought or run?"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.options import (
    RUNS_DIR,
    HtmlOption,
    JsonOption,
    MapsOption,
    RunsDirOption,
    demand_alone,
    demand_maps,
)
from specbench.errors import ExitCode, SpecbenchError

if TYPE_CHECKING:
    from specbench.analysis.clock import Prices
    from specbench.analysis.planning import Survival
    from specbench.analysis.schedule import Text
    from specbench.analysis.serving import Load
    from specbench.config.costs import Costs


def plan(
    trace: Annotated[
        Path | None, typer.Option("--trace", metavar="FILE", help="Acceptance from an agreement trace.")
    ] = None,
    acceptance: Annotated[
        str | None,
        typer.Option(
            metavar="A1,A2,...", help="Acceptance of the 1st, 2nd, ... drafted token if all before were."
        ),
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="Acceptance of `speculative` in a stored run.")
    ] = None,
    costs: Annotated[
        Path | None, typer.Option("--costs", metavar="FILE", help="A cost table, measured or written by hand.")
    ] = None,
    step_ms: Annotated[
        float | None, typer.Option(help="Without --costs: a step of the target, 30 if absent.")
    ] = None,
    cost_ratio: Annotated[
        float | None, typer.Option(help="Without --costs: a step of the draft in those, 0.1 if absent.")
    ] = None,
    width_cost: Annotated[
        float | None,
        typer.Option(
            help="Without --costs: what each token more adds to a verification, in steps; 0.02 if absent."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A value of the cost table, such as link.rtt_ms=40."),
    ] = None,
    objective_ms: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Time per token that 95 % of texts keep to: how many clients has one target?"
        ),
    ] = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over", metavar="KEY=VALUES", help="A map over values of the cost table: link.rtt_ms=0,20,100."
        ),
    ] = None,
    html: HtmlOption = None,
    charts: MapsOption = None,
    runs_dir: RunsDirOption = RUNS_DIR,
    as_json: JsonOption = False,
) -> None:
    """Predict each method's time per token, best draft length, break-even round trip and clients per target."""
    from specbench.analysis.clock import Prices
    from specbench.analysis.planning import FORMS, break_even_rtt_ms, fastest, forecasts, verdicts
    from specbench.analysis.schedule import texts_of
    from specbench.bench.traces import read_trace
    from specbench.config.costs import read_costs
    from specbench.render import console
    from specbench.render.schedules import plan_table

    if sum(given is not None for given in (trace, acceptance, run)) != 1:
        raise SpecbenchError(
            "a plan needs the draft's acceptance, from one place",
            "--trace FILE, --run RUN, or --acceptance 0.8,0.7,0.65",
        )
    by_hand = {"--step-ms": step_ms, "--cost-ratio": cost_ratio, "--width-cost": width_cost}
    if (html or charts) and not over:
        raise SpecbenchError(
            "--html and --charts write the map of a plan, which --over makes", "--over link.rtt_ms=0,20,100"
        )
    demand_alone("--over" if over else "", {"--objective-ms": objective_ms})
    demand_maps(html, charts)
    demand_alone("--costs" if costs else "", {name: value is not None for name, value in by_hand.items()})
    texts = texts_of(read_trace(trace)) if trace else []
    survival = _survival(texts, acceptance, run, runs_dir)
    table = read_costs(costs) if costs else _by_hand(step_ms, cost_ratio, width_cost)
    prices = Prices(table.with_values(_values(overrides or ())))
    if over:
        _map(survival, prices.costs, over, html, charts, as_json)
        return
    lines = verdicts(survival, prices)
    served = _clients(texts, survival, prices, objective_ms) if objective_ms else {}
    if as_json:
        even = {method: break_even_rtt_ms(survival, prices, method) for method in FORMS}
        console.print_json(
            {
                "conditional_acceptance": survival.conditional,
                "costs": prices.costs.model_dump(mode="json"),
                "verdicts": lines,
                "methods": {
                    method: {
                        "best_draft_length": fastest(forecasts(survival, prices, method)).draft_length,
                        "break_even_rtt_ms": None if even[method] in (None, math.inf) else even[method],
                        "any_rtt": even[method] == math.inf,
                        "forecasts": [_finite(asdict(each)) for each in forecasts(survival, prices, method)],
                    }
                    for method in FORMS
                },
                "clients": {name: load and _as_document(load) for name, load in served.items()},
            }
        )
        return
    console.out.print(plan_table(survival, prices, texts, lines))
    for name, load in served.items():
        if load is None:
            line = f"{name}: not one client keeps to {objective_ms:g} ms a token"
        else:
            line = (
                f"{name}: {load.clients} clients on one target keep to {objective_ms:g} ms a token (95 % of "
                f"texts at {load.high_ms:.1f} ms; the target is busy {load.busy:.0%} of the time, "
                f"{load.rows_per_pass:.1f} tokens a pass)"
            )
        console.out.print(line, markup=False)


def _map(
    survival: Survival,
    costs: Costs,
    over: list[str],
    html: Path | None,
    charts: Path | None,
    as_json: bool,
) -> None:
    """The plan over a grid: where each method would win, by closed form."""
    from specbench.analysis.grid import parse_over
    from specbench.analysis.planned import planned_rows
    from specbench.cli.replay import show_grid

    rows = list(planned_rows(survival, costs, parse_over(over)))
    chances = ", ".join(f"{share:.2f}" for share in survival.conditional[:4])
    title = f"planned by closed form, acceptance {chances} · {costs.description or 'costs by hand'}"
    head = {"conditional_acceptance": survival.conditional, "costs": costs.model_dump(mode="json")}
    show_grid(rows, title, head, html, charts, as_json)


def _finite(fields: dict) -> dict:
    return {name: None if value == math.inf else value for name, value in fields.items()}


def _as_document(load: Load) -> dict:
    return {
        "clients": load.clients,
        "p95_ms_per_token": load.high_ms,
        "busy": load.busy,
        "tokens_per_pass": load.rows_per_pass,
    }


def _survival(texts: list[Text], acceptance: str | None, run: str | None, runs_dir: Path) -> Survival:
    from specbench.analysis.planning import Survival, measured_survival

    if texts:
        return measured_survival(texts)
    if acceptance is not None:
        return Survival(_chances(acceptance))
    from specbench.analysis.acceptance import acceptance as of_rounds
    from specbench.bench.store import RunStore

    store = RunStore(runs_dir)
    records = [each for each in store.read(store.find(run)).generations if each.method == "speculative"]
    found = of_rounds(records)
    known = [] if found is None else [share for share in found.conditional if share is not None]
    if not known:
        raise SpecbenchError(f"run {run} drafted nothing by `speculative`", "--acceptance 0.8,0.7,0.65")
    return Survival(tuple(known))


def _chances(text: str) -> tuple[float, ...]:
    try:
        chances = tuple(float(part) for part in text.split(","))
    except ValueError:
        chances = (-1.0,)
    if not all(0 <= chance <= 1 for chance in chances):
        raise SpecbenchError(
            f"--acceptance {text} is no list of chances between 0 and 1",
            "for example --acceptance 0.8,0.7,0.65",
        )
    return chances


def _by_hand(step_ms: float | None, cost_ratio: float | None, width_cost: float | None) -> Costs:
    from specbench.config.costs import Costs
    from specbench.config.loading import validated

    step_ms = 30.0 if step_ms is None else step_ms
    cost_ratio = 0.1 if cost_ratio is None else cost_ratio
    width_cost = 0.02 if width_cost is None else width_cost
    values = {
        "draft": {"step_ms": step_ms * cost_ratio},
        "target": {"verify_ms": {1: step_ms, 2: step_ms * (1 + width_cost)}},
    }
    return validated(Costs, values, "--step-ms, --cost-ratio and --width-cost", ExitCode.USAGE)


def _values(overrides: list[str] | tuple[str, ...]) -> dict[str, object]:
    from specbench.config.yaml_text import parse_value

    values = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise SpecbenchError(
                f"--set {override} is not of the form key=value", "such as --set link.rtt_ms=40"
            )
        values[key.strip()] = parse_value(text)
    return values


def _clients(texts: list[Text], survival: Survival, prices: Prices, objective_ms: float) -> dict:
    """The most clients of the cloud alone, and of each method at its best draft length for one client."""
    from specbench.analysis import serving
    from specbench.analysis.planning import FORMS, fastest, forecasts
    from specbench.analysis.replay import CONTROL

    best = {method: fastest(forecasts(survival, prices, method)).draft_length or 1 for method in FORMS}
    found = {}
    for method, drafted in {CONTROL: 0, **best}.items():
        work = (
            serving.scripts(texts, drafted) if texts else serving.drawn_scripts(survival.conditional, drafted)
        )
        found[f"{method}, draft length {drafted}" if drafted else method] = serving.most_clients(
            lambda clients, work=work, method=method: serving.simulate(work, prices, clients, method),
            objective_ms,
        )
    return found
