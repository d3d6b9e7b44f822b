"""`specbench limits`: how near the engine comes to what memory allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specbench.cli.options import JsonOption, ProfileOption, SetOption, demand_place

if TYPE_CHECKING:
    from specbench.cloud import CloudModel, EdgeModel
    from specbench.profile import Profile


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
    from contextlib import closing
    from dataclasses import replace

    from rich.table import Table

    from specbench.benchmark.ceiling import decoding_ms
    from specbench.benchmark.preparation import configure_torch
    from specbench.cloud import EdgeModel, cloud_of
    from specbench.cloud.link import emulated
    from specbench.models import vocabulary
    from specbench.models.confinement import confine
    from specbench.profile import LinkSpec, load_profile
    from specbench.render import console
    from specbench.stats.ceiling_shares import told_fault

    if costs:
        demand_place(costs)
    loaded = load_profile(profile, overrides or ())
    confine(loaded.edge)  # before anything can import torch
    configure_torch(loaded)
    rows = {}
    edge = EdgeModel(loaded.edge, loaded.engine)
    placed = loaded
    if loaded.link.kind == "modelled":  # its time is known, and would only be waited for
        placed = loaded.model_copy(update={"link": LinkSpec()})
    elif loaded.link.kind == "emulated":
        emulated.demand(loaded.link)
    cloud = cloud_of(placed)
    if loaded.cloud.backend == "vllm":
        cloud.demand_here()
    with closing(cloud):
        size = vocabulary.size(cloud.tokenizer)
        if loaded.speculative.cross_vocabulary:
            edge.demand_same_tokens(cloud, cross_vocabulary=True)
        for factory in (edge, cloud):
            before, ms, after = factory.ceiling(), decoding_ms(factory, size), factory.ceiling()
            speeds = sorted((before.bytes_per_second, after.bytes_per_second))
            ceiling = replace(after, bytes_per_second=sum(speeds) / 2)
            share = ceiling.share(ms)
            rows[factory.role] = {
                "model": factory.spec.model,
                "device": factory.audit().device,
                "engine": factory.engine_kind,
                "weight_bytes": ceiling.weight_bytes,
                "bytes_per_second": ceiling.bytes_per_second,
                "reader": ceiling.reader,
                "ceiling_tokens_per_second": ceiling.tokens_per_second,
                "tokens_per_second": 1000 / ms,
                "bytes_per_second_range": speeds,
                "share": share,
                "fault": told_fault(f"the {factory.role}", share, ceiling) if share and share > 1 else None,
            }
        if costs:
            _write_costs(costs, edge, cloud, loaded)
    if as_json:
        console.print_json({"profile": profile, "models": rows})
        return
    table = Table(title=f"profile {profile}", title_justify="left", header_style="bold")
    for column in ("role", "model", "engine", "device"):
        table.add_column(column, overflow="fold")
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
    for row in rows.values():
        if row["fault"]:
            console.out.print(row["fault"], markup=False)


def _write_costs(path: Path, edge: EdgeModel, cloud: CloudModel, profile: Profile) -> None:
    from specbench.api import Options
    from specbench.forecast.cost_measurement import measure_costs, placed
    from specbench.profile.cost_table import write_costs
    from specbench.render import console
    from specbench.results.environment import machine

    console.note("measuring drafts, verifications and prompts")
    options = Options(
        profile.decoding, profile.speculative.model_copy(update={"gate": None, "confidence_stop": None})
    )
    engines = " and ".join(dict.fromkeys((edge.engine_kind, cloud.engine_kind)))
    description = f"{edge.spec.model} drafts for {cloud.spec.model}, {engines}, {machine()['cpu']}"
    write_costs(path, placed(measure_costs(edge, cloud, options, description), profile))
    console.note(f"wrote {path}")


def _or_dash(value: float | None, text: Callable[[float], str]) -> str:
    return "-" if value is None else text(value)
