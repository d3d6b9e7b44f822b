"""`specbench load`: many edges on one server, against the server alone and against drafts of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from specbench.cli import options
from specbench.cli.options import argument, option
from specbench.errors import SpecbenchError

EXAMPLES = ("specbench load --edges 4", "specbench load --edges 16 --arrival poisson --rate 2")


def load(
    method: Annotated[str, argument("[METHOD]", "Method that the edges run.")] = "speculative",
    *,
    edges: Annotated[int, option("--edges", "Number of edges, a connection each.", "N", min=1, max=512)],
    arrival: Annotated[
        Literal["closed", "poisson"],
        option("--arrival", "closed: an edge asks again once it is answered. poisson: random times at --rate."),
    ] = "closed",
    rate: Annotated[
        float | None,
        option("--rate", "Requests per second over all edges. Needs --arrival poisson.", "X", min=1e-6),
    ] = None,
    requests: Annotated[
        int | None,
        option(
            "--requests", "Number of requests over all edges (default: two per edge, at least 20).", "N", min=1
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        option(
            "--trace", "Replay drafts and draft times from this trace instead of running a draft model.", "FILE"
        ),
    ] = None,
    objective_tpot_ms: Annotated[
        float | None,
        option(
            "--objective-tpot-ms",
            "Time per output token to keep to, in milliseconds (default: twice that of a single edge).",
            "MS",
            min=1e-6,
        ),
    ] = None,
    plugin: options.PluginOption = None,
    profile: options.ProfileOption = "default",
    overrides: options.SetOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Measure many edges on one server: with a method, without drafting, and with drafts on the server."""
    if (arrival == "poisson") != (rate is not None):
        raise SpecbenchError("--rate and --arrival poisson need each other", "pass both, or neither")
    from specbench.render import console
    from specbench.serving_load.load import Load, measure_load

    asked = Load(edges, rate, requests, trace, objective_tpot_ms)
    result = measure_load(asked, method, profile, overrides or (), plugin or ())

    from specbench.render.load import load_document, load_table

    if as_json:
        console.print_json({"edges": edges, "arrival": arrival, "rate": rate, **load_document(result)})
    else:
        console.out.print(load_table(result.rows, result.title, result.objective_ms, result.capacity))
