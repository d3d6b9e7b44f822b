"""`specbench limits`: how near the engine comes to what memory allows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from specbench.cli import options
from specbench.cli.options import option

EXAMPLES = ("specbench limits", "specbench limits --profile quantized_edge --costs costs.json")


def limits(
    profile: options.ProfileOption = "default",
    overrides: options.SetOption = None,
    costs: Annotated[
        Path | None,
        option("--costs", "Also measure what each part of a round costs, and write it to FILE.", "FILE"),
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Measure memory bandwidth, and how close the profile's engine comes to that ceiling."""
    from specbench.forecast.limit_measurement import measured_limits
    from specbench.profile import load_profile
    from specbench.render import console
    from specbench.render.report.output import demand_place

    if costs:
        demand_place(costs)
    rows = measured_limits(load_profile(profile, overrides or ()), costs)
    if as_json:
        console.print_json({"profile": profile, "models": rows})
    else:
        _print(profile, rows)


def _print(profile: str, rows: dict[str, dict]) -> None:
    from specbench.render import console
    from specbench.render.cells import number, percent
    from specbench.render.fitting import folding

    table = folding("role", "model", "engine", "device", title=f"profile {profile}")
    figures = ("weights\nper token", "read\nbandwidth", "ceiling\ntok/s", "reached\ntok/s", "share of\nceiling")
    for column in figures:
        table.add_column(column, justify="right")
    for role, row in rows.items():
        size = row["weight_bytes"]
        table.add_row(
            *(role, row["model"], row["engine"], row["device"]),
            number(size / 1e6 if size else None, 1, " MB"),
            number(row["bytes_per_second"] / 1e9, 1, " GB/s"),
            number(row["ceiling_tokens_per_second"]),
            number(row["tokens_per_second"]),
            percent(row["share"]),
        )
    console.out.print(table)
    for row in rows.values():
        if row["fault"]:
            console.out.print(row["fault"], markup=False)
