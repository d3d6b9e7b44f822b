"""`specbench limits`: how near the engine comes to what memory allows."""

from __future__ import annotations

from collections.abc import Callable

from specbench.cli.options import JsonOption, ProfileOption, SetOption


def limits(
    profile: ProfileOption = "default", overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """Measure the read bandwidth, and what the profile's engine makes of it on a short greedy decode."""
    from rich.table import Table

    from specbench.bench.ceiling import ceiling_of, decoding_ms
    from specbench.bench.preparation import configure_torch
    from specbench.config import load_profile
    from specbench.factories import CloudModel, EdgeModel
    from specbench.render import console

    loaded = load_profile(profile, overrides or ())
    configure_torch(loaded)
    rows = {}
    for factory in (
        EdgeModel(loaded.edge, console.note, loaded.engine),
        CloudModel(loaded.cloud, console.note, loaded.engine),
    ):
        ceiling = ceiling_of(factory)
        ms = decoding_ms(factory)
        rows[factory.role] = {
            "model": factory.spec.model,
            "device": str(factory.engine.loaded.device),
            "engine": factory.engine.kind,
            "weight_bytes": ceiling.weight_bytes,
            "bytes_per_second": ceiling.bytes_per_second,
            "ceiling_tokens_per_second": ceiling.tokens_per_second,
            "tokens_per_second": 1000 / ms,
            "share": ceiling.share(ms),
        }
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


def _or_dash(value: float | None, text: Callable[[float], str]) -> str:
    return "-" if value is None else text(value)
