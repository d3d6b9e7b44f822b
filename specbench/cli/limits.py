"""`specbench limits`: how near the engine comes to what memory allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.options import JsonOption, ProfileOption, SetOption, demand_place

if TYPE_CHECKING:
    from specbench.config import Profile
    from specbench.factories import CloudModel, EdgeModel


def limits(
    profile: ProfileOption = "default",
    overrides: SetOption = None,
    costs: Annotated[
        Path | None,
        typer.Option(
            "--costs", metavar="FILE", help="Measure the cost of each part of a round too, and write it."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the read bandwidth, and what the profile's engine makes of it on a short greedy decode."""
    from rich.table import Table

    from specbench.bench.ceiling import decoding_ms
    from specbench.bench.preparation import configure_torch
    from specbench.config import load_profile
    from specbench.factories import EdgeModel, cloud_of
    from specbench.models.confinement import confine
    from specbench.render import console

    if costs:
        demand_place(costs)
    loaded = load_profile(profile, overrides or ())
    confine(loaded.edge)  # before anything can import torch
    configure_torch(loaded)
    rows = {}
    edge = EdgeModel(loaded.edge, console.note, loaded.engine)
    cloud = cloud_of(loaded, console.note)
    cloud.demand_here()
    for factory in (edge, cloud):
        ceiling = factory.ceiling()
        ms = decoding_ms(factory)
        rows[factory.role] = {
            "model": factory.spec.model,
            "device": str(factory.engine.loaded.device),
            "engine": factory.engine.kind,
            "weight_bytes": ceiling.weight_bytes,
            "bytes_per_second": ceiling.bytes_per_second,
            "reader": ceiling.reader,
            "ceiling_tokens_per_second": ceiling.tokens_per_second,
            "tokens_per_second": 1000 / ms,
            "share": ceiling.share(ms),
        }
    if costs:
        _write_costs(costs, edge, cloud, loaded)
    if as_json:
        console.print_json({"profile": profile, "models": rows})
        return
    table = Table(title=f"profile {profile}", title_justify="left", header_style="bold")
    for column in ("role", "model", "engine", "device"):
        table.add_column(column)
    for column in (
        "weights\nper token",
        "read\nbandwidth",
        "ceiling\ntok/s",
        "reached\ntok/s",
        "share of\nceiling",
    ):
        table.add_column(column, justify="right")
    for role, row in rows.items():
        table.add_row(
            *(role, row["model"], row["engine"], row["device"]),
            _or_dash(row["weight_bytes"], lambda value: f"{value / 1e6:.1f} MB"),
            f"{row['bytes_per_second'] / 1e9:.1f} GB/s",
            _or_dash(row["ceiling_tokens_per_second"], lambda value: f"{value:.1f}"),
            f"{row['tokens_per_second']:.1f}",
            _or_dash(row["share"], lambda value: f"{value:.0%}"),
        )
    console.out.print(table)


def _write_costs(path: Path, edge: EdgeModel, cloud: CloudModel, profile: Profile) -> None:
    from specbench.api import Options
    from specbench.bench.costing import measure_costs
    from specbench.config.costs import LinkCosts, write_costs
    from specbench.environment import machine
    from specbench.render import console

    console.note("measuring drafts, verifications and prompts")
    options = Options(profile.decoding, profile.speculative.model_copy(update={"gate": None}))
    engines = " and ".join(dict.fromkeys((edge.engine.kind, cloud.engine.kind)))
    description = f"{edge.spec.model} drafts for {cloud.spec.model}, {engines}, {machine()['cpu']}"
    link = profile.link
    between = LinkCosts(rtt_ms=link.rtt_ms, uplink_mbps=link.uplink_mbps, downlink_mbps=link.downlink_mbps)
    measured = measure_costs(edge, cloud, options, description)
    write_costs(path, measured.model_copy(update={"link": between}))
    console.note(f"{path}: the cost table")


def _or_dash(value: float | None, text: Callable[[float], str]) -> str:
    return "-" if value is None else text(value)
