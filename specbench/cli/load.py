"""`specbench load`: many edges on one server, against the server alone and against drafts of its own."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from specbench.cli.options import JsonOption, PluginOption, ProfileOption, SetOption
from specbench.errors import SpecbenchError

FEWEST_REQUESTS = 20  # that a median takes
LONE_TIMES = 2  # the objective over what a lone edge gets: somebody else may be served in between
OWN_CONNECTIONS = 2  # that of the command itself, and one that may still be closing


EXAMPLES = ("specbench load --edges 4", "specbench load --edges 16 --arrival poisson --rate 2")


def load(
    method: Annotated[
        str, typer.Argument(metavar="[METHOD]", help="Method that the edges run.")
    ] = "speculative",
    *,
    edges: Annotated[
        int,
        typer.Option("--edges", metavar="N", min=1, max=512, help="Number of edges, a connection each."),
    ],
    arrival: Annotated[
        Literal["closed", "poisson"],
        typer.Option(
            "--arrival", help="closed: an edge asks again once it is answered. poisson: random times at --rate."
        ),
    ] = "closed",
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate", metavar="X", min=1e-6, help="Requests per second over all edges. Needs --arrival poisson."
        ),
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(
            "--requests",
            metavar="N",
            min=1,
            help="Number of requests over all edges (default: two per edge, at least 20).",
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            help="Replay drafts and draft times from this trace instead of running a draft model.",
        ),
    ] = None,
    objective_tpot_ms: Annotated[
        float | None,
        typer.Option(
            "--objective-tpot-ms",
            metavar="MS",
            min=1e-6,
            help="Time per output token to keep to, in milliseconds (default: twice that of a single edge).",
        ),
    ] = None,
    plugin: PluginOption = None,
    profile: ProfileOption = "default",
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure many edges on one server: with a method, without drafting, and with drafts on the server."""
    if (arrival == "poisson") != (rate is not None):
        raise SpecbenchError("--rate and --arrival poisson need each other", "pass both, or neither")
    if requests is not None and requests < edges:
        raise SpecbenchError(
            f"{requests} requests are too few for {edges} edges: each edge asks at least once",
            f"pass --requests {2 * edges}, or fewer --edges",
        )
    from specbench.models.confinement import confine
    from specbench.profile import load_profile

    loaded = load_profile(profile, overrides or ())
    given = {"cloud.placement": "process"} if loaded.cloud.placement == "in_process" else {}
    if loaded.edge.threads is None and trace is None:
        given["edge.threads"] = 1  # edges in threads of one process; more would fight over its cores
    loaded = load_profile(profile, overrides or (), given)
    edge_device = confine(loaded.edge)  # before anything can import torch

    from specbench.benchmark.preparation import prepare
    from specbench.registry import discover
    from specbench.render import console
    from specbench.render.load import load_table
    from specbench.results.records import CONTROL
    from specbench.serving_load.departures import departures
    from specbench.serving_load.edges import COLOCATED, lone_tpot_ms, measure, schedule
    from specbench.serving_load.figures import capacity, load_row
    from specbench.serving_load.recorded import edges_of

    registry = discover(plugin or ())
    registry.demand_settings(loaded)
    methods = [registry.get(name) for name in dict.fromkeys((method, CONTROL, COLOCATED))]
    if "cloud" not in methods[0].roles:
        raise SpecbenchError(
            f"{method} does not use the server, so there is no load to measure", f"specbench run {method}"
        )
    prepared = prepare(loaded, methods)
    prepared.cloud.most_edges = edges + OWN_CONNECTIONS
    with closing(prepared.cloud):
        prompts, models, label = edges_of(prepared, trace)
        drafts_at_edge = method != COLOCATED and "edge" in methods[0].roles
        label = label if drafts_at_edge else f"what {method} drafts, if anything, takes no model"
        asked = schedule(prepared, edges, requests or max(2 * edges, FEWEST_REQUESTS), rate, prompts)
        prepared.cloud.load()
        engine = prepared.cloud.engine_kind
        objective_ms = objective_tpot_ms
        if objective_ms is None:  # before the load, which a refusal would cost
            lone_ms = lone_tpot_ms(prepared, asked, models, registry.get(CONTROL))
            console.note(f"a single edge without drafting takes {lone_ms:.1f} ms per token")
            objective_ms = LONE_TIMES * lone_ms
        answers = measure(prepared, edges, asked, models)
        departed = departures(prepared, asked, answers)
    ways = [each.name for each in methods]
    rows = {way: load_row(way, answers[way], objective_ms, departed[way]) for way in ways}
    found = capacity(rows[method], rows[COLOCATED], answers[COLOCATED]) if drafts_at_edge else None
    batch = loaded.cloud.batch
    server = loaded.cloud.placement if loaded.cloud.is_elsewhere else f"{engine} engine"
    arriving = "asking again at once" if rate is None else f"Poisson arrivals, {rate:g} a second"
    title = f"{edges} edges, {arriving}; server: {server}, at most {batch.sessions} sequences per pass; {label}"
    if as_json:
        console.print_json(
            {
                "edges": edges,
                "arrival": arrival,
                "rate": rate,
                "drafts": label,
                "objective_tpot_ms": objective_ms,
                "profile": loaded.model_dump(mode="json"),
                "edge_device": edge_device,
                "capacity": asdict(found) if found else None,
                "rows": [asdict(row) for row in rows.values()],
            }
        )
        return
    console.out.print(load_table(list(rows.values()), title, objective_ms, found))
