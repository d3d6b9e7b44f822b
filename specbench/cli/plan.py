"""`specbench plan`: what would each method take, before anything is bought or run?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from specbench.cli import options
from specbench.cli.options import A_RUN, RUNS_DIR, option
from specbench.errors import SpecbenchError

EXAMPLES = (
    "specbench plan --acceptance 0.8,0.7,0.65 --step-ms 30 --set link.rtt_ms=40",
    "specbench plan --run latest --over link.rtt_ms=0,20,100",
)


def plan(
    trace: Annotated[
        Path | None, option("--trace", "Take acceptance from a trace of 'specbench trace'.", "FILE")
    ] = None,
    acceptance: Annotated[
        str | None,
        option(
            "--acceptance",
            "Probability that the 1st, 2nd, ... drafted token is accepted, given that all before it were; "
            "or a speculation_profile.json, a result of 'vllm bench serve', or the text of vLLM's /metrics.",
            "A1,A2,... | FILE",
        ),
    ] = None,
    run: Annotated[
        str | None,
        option(
            "--run",
            f"Take acceptance and costs from speculative, or else speculative_eagle, of a stored run: {A_RUN}.",
            "RUN",
        ),
    ] = None,
    acceptance_out: Annotated[
        Path | None,
        option(
            "--acceptance-out",
            "Also write the acceptance to FILE as a speculation_profile.json, for other simulators.",
            "FILE",
        ),
    ] = None,
    costs: Annotated[
        Path | None, option("--costs", "Cost table, of 'specbench limits' or written by hand.", "FILE")
    ] = None,
    step_ms: Annotated[
        float | None,
        option("--step-ms", "Target step time in milliseconds (default: the run's, else 30).", "MS"),
    ] = None,
    cost_ratio: Annotated[
        float | None,
        option(
            "--cost-ratio",
            "Draft step time as a fraction of a target step (default: the run's, else 0.1).",
            "X",
        ),
    ] = None,
    width_cost: Annotated[
        float | None,
        option(
            "--width-cost",
            "Cost of each additional verified token, as a fraction of a target step (default: the run's, "
            "else 0.02).",
            "X",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        option("--set", "Override one value of the cost table, such as link.rtt_ms=40.", "KEY=VALUE"),
    ] = None,
    objective_ms: Annotated[
        float | None,
        option(
            "--objective-ms",
            "Also show how many clients one target serves if 95 % of texts keep to this time per token.",
            "MS",
            min=0.0,
        ),
    ] = None,
    over: Annotated[
        list[str] | None,
        option(
            "--over",
            "Vary window, a method's own option or a value of the cost table and show a map: "
            "link.rtt_ms=0,20,100. Repeatable.",
            "KEY=VALUES",
        ),
    ] = None,
    methods: Annotated[
        list[str] | None,
        option(
            "--method", "Method to plan (default: all that draft with the edge model). Repeatable.", "METHOD"
        ),
    ] = None,
    plugin: options.PluginOption = None,
    html: options.HtmlOption = None,
    charts: options.MapsOption = None,
    chart_width_mm: options.ChartWidthOption = None,
    runs_dir: options.RunsDirOption = RUNS_DIR,
    as_json: options.JsonOption = False,
) -> None:
    """Predict time per token, best draft length, break-even round trip and clients per target."""
    from specbench.forecast.assumed import assumptions, by_numbers
    from specbench.forecast.grid_making import planned_grid
    from specbench.forecast.known import known_from, write_acceptance
    from specbench.forecast.over import parse_over
    from specbench.forecast.plan import plan as made_plan
    from specbench.profile.cost_table import read_costs
    from specbench.profile.loading import overriding
    from specbench.render.report.output import Wanted
    from specbench.render.showing import show_grid, show_plan
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
    wanted = Wanted(html, charts, chart_width_mm)
    options.demand_alone("--over" if over else "", {"--objective-ms": objective_ms})
    options.demand_alone(
        "--costs" if costs else "", {name: value is not None for name, value in by_hand.items()}
    )
    wanted.demand()
    stored = options.stored_runs([run], runs_dir)[0] if run else None
    known = known_from(trace, acceptance, stored, options.chosen_methods(methods, plugin))
    if acceptance_out:
        write_acceptance(acceptance_out, known)
    if costs:
        table = read_costs(costs)
        assumed = assumptions(table)
    else:
        table, assumed = by_numbers(run_costs(stored) if stored else None, step_ms, cost_ratio, width_cost)
    values = dict(overriding(overrides or (), "link.rtt_ms=40"))
    assumed = [each for each in assumed if each.key not in values]
    prices = Prices(table.with_values(values))
    if over:
        show_grid(planned_grid(known, prices.costs, parse_over(over), assumed), wanted, as_json)
    else:
        show_plan(made_plan(known, prices, assumed, objective_ms), as_json)
