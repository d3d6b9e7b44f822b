"""`specbench limits`: how near the engine comes to what memory allows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specbench.cli.options import JsonOption, ProfileOption, SetOption

EXAMPLES = ("specbench limits", "specbench limits --profile quantized_edge --costs costs.json")


def limits(
    profile: ProfileOption = "default",
    overrides: SetOption = None,
    costs: Annotated[
        Path | None,
        typer.Option(
            "--costs",
            metavar="FILE",
            help="Also measure what each part of a round costs, and write it to FILE.",
        ),
    ] = None,
    as_json: JsonOption = False,
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
    from rich.table import Table

    from specbench.render import console
    from specbench.render.tables import number, percent

    table = Table(title=f"profile {profile}", title_justify="left", header_style="bold")
    for column in ("role", "model", "engine", "device"):
        table.add_column(column, overflow="fold")
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
