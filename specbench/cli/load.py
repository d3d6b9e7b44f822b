"""`specbench load`: many edges on one server, against the server alone and against drafts of its own."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from specbench.cli.options import JsonOption, ProfileOption, SetOption
from specbench.errors import SpecbenchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from specbench.bench.load import Drafts
    from specbench.bench.preparation import Prepared

FEWEST_REQUESTS = 20  # that a median takes
OWN_CONNECTIONS = 2  # that of the command itself, and one that may still be closing


def load(
    edges: Annotated[int, typer.Option("--edges", min=1, max=512, help="How many; each has a connection.")],
    arrival: Annotated[
        Literal["closed", "poisson"],
        typer.Option(help="closed: an edge asks again once it is answered; poisson: at random, --rate."),
    ] = "closed",
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate", min=1e-6, help="Requests a second, of all edges together; needs --arrival poisson."
        ),
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option("--requests", min=1, help="Of all edges together; two each, and at least 20, if absent."),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", metavar="FILE", help="Edges take their drafts from it, and sleep as long."),
    ] = None,
    objective_tpot_ms: Annotated[
        float | None,
        typer.Option(
            "--objective-tpot-ms", min=1e-6, help="Time per token to keep to; the server alone's if absent."
        ),
    ] = None,
    profile: ProfileOption = "default",
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Drive a server with many edges, by what they draft, alone, and with drafts of its own."""
    if (arrival == "poisson") != (rate is not None):
        raise SpecbenchError("--rate belongs to --arrival poisson", "give both, or neither")
    from specbench.config import load_profile

    loaded = load_profile(profile, overrides or ())
    given = {"cloud.placement": "process"} if loaded.cloud.placement == "in_process" else {}
    if loaded.edge.threads is None and trace is None:
        given["edge.threads"] = 1  # edges in threads of one process; more would fight over its cores
    loaded = load_profile(profile, overrides or (), given)

    from specbench.analysis.load import capacity, load_row, tpot_median
    from specbench.bench.load import ALONE, COLOCATED, EDGE, WAYS, departures, measure, schedule
    from specbench.bench.preparation import prepare
    from specbench.registry import discover
    from specbench.render import console
    from specbench.render.load import load_table

    registry = discover(())
    prepared = prepare(loaded, [registry.get(way) for way in WAYS], console.note)
    prepared.cloud.most_edges = edges + OWN_CONNECTIONS
    with closing(prepared.cloud):
        prompts, drafts, label = drafts_of(prepared, trace)
        prepared.cloud.load()
        asked = schedule(prepared, edges, requests or max(2 * edges, FEWEST_REQUESTS), rate, prompts)
        answers = measure(prepared, edges, asked, drafts, console.note)
        objective_ms = objective_tpot_ms or tpot_median(answers[ALONE]) or 0.0
        departed = departures(prepared, asked, answers, console.note)
    rows = {way: load_row(way, answers[way], objective_ms, departed[way]) for way in WAYS}
    found = capacity(rows[EDGE], rows[COLOCATED], answers[COLOCATED])
    batch = loaded.cloud.batch
    own = f"{loaded.engine.kind} engine, at most {batch.sessions} texts a pass"
    sharing = loaded.cloud.placement if loaded.cloud.is_elsewhere else own
    arriving = "asking again at once" if rate is None else f"Poisson arrivals, {rate:g} a second"
    title = f"{edges} edges, {arriving}; server: {sharing}; {label}"
    if as_json:
        console.print_json(
            {
                "edges": edges,
                "arrival": arrival,
                "rate": rate,
                "drafts": label,
                "objective_tpot_ms": objective_ms,
                "profile": loaded.model_dump(mode="json"),
                "capacity": asdict(found) if found else None,
                "rows": [asdict(row) for row in rows.values()],
            }
        )
        return
    console.out.print(load_table(list(rows.values()), title, objective_ms, found))


def drafts_of(prepared: Prepared, trace: Path | None) -> tuple[list, Callable[[], Drafts], str]:
    """The prompts that are asked, what makes an edge's drafts, and what to call that."""
    from specbench.api import Options

    options = Options.of(prepared.profile)
    if trace is None:
        from specbench.bench.load import InTurn
        from specbench.decoding.threads import model_thread, send_team_home

        prepared.edge.load()
        send_team_home()  # drafts are made in another thread
        thread = model_thread()
        threads = prepared.profile.edge.threads
        label = f"real drafts, made in turn by one process (edge.threads: {threads}) beside the server"
        return list(prepared.prompts), lambda: InTurn(prepared.edge.drafter(options), thread), label
    from specbench.bench.conversation import ids_sha256
    from specbench.bench.recorded import RecordedDrafts, demand_same_pair, measured_pace, recorded_texts
    from specbench.bench.traces import read_trace
    from specbench.models import vocabulary

    tokenizer = prepared.cloud.tokenizer
    recorded = read_trace(trace)
    demand_same_pair(recorded, prepared)
    texts = recorded_texts(
        recorded,
        vocabulary.fingerprint(tokenizer),
        options.speculative.verification,
        prepared.profile.workload.max_new_tokens,
    )
    requests = [(prompt, prepared.request(prompt, 0, 0, [])) for prompt in prepared.prompts]
    known = [(prompt, request) for prompt, request in requests if ids_sha256(request.prompt_ids) in texts]
    if not known:
        raise SpecbenchError(f"{trace} has none of the workload's prompts", "trace the same workload")
    pace = measured_pace(prepared.edge, options, known[0][1])
    size = vocabulary.size(tokenizer)
    label = f"drafts recorded in {trace.name}, their time slept ({pace.step_ms:.2f} ms a token)"
    return [prompt for prompt, _ in known], lambda: RecordedDrafts(texts, pace, size), label
