"""Measuring a load: the same requests by a method, by the server alone, and with drafts made by the server."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from specbench.benchmark.media_demands import demand_texts
from specbench.benchmark.preparation import Prepared, prepare
from specbench.errors import SpecbenchError
from specbench.models.confinement import confine
from specbench.profile import Profile, load_profile
from specbench.registry import discover
from specbench.results.records import CONTROL
from specbench.stats.notes import synthetic_in_words

if TYPE_CHECKING:
    from specbench.serving_load.figures import Capacity, LoadRow


logger = logging.getLogger(__name__)

FEWEST_REQUESTS = 20  # that a median takes
LONE_TIMES = 2  # the objective over what a lone edge gets: somebody else may be served in between
OWN_CONNECTIONS = 2  # that of the command itself, and one that may still be closing


@dataclass(frozen=True)
class Load:
    """What was asked of a server.

    Args:
        rate: requests a second over all edges, at random times; `None` has each edge ask again once answered.
        requests: over all edges; `None` for two an edge, and 20 at least.
        trace: has the drafts; without it the profile's edge model makes them.
        objective_ms: time per token to keep to; `None` for twice that of a single edge.
    """

    edges: int
    rate: float | None = None
    requests: int | None = None
    trace: Path | None = None
    objective_ms: float | None = None

    def demand_valid(self) -> None:
        """Refuse fewer requests than edges.

        Raises:
            SpecbenchError: as said.
        """
        if self.requests is not None and self.requests < self.edges:
            raise SpecbenchError(
                f"{self.requests} requests are too few for {self.edges} edges: each edge asks at least once",
                f"pass --requests {2 * self.edges}, or fewer --edges",
            )


@dataclass(frozen=True)
class LoadResult:
    """What a server did under a load.

    Args:
        title: edges, arrivals, server and drafts, in words.
        drafts: what the edges drafted with, in words.
        edge_device: what the edge was confined to.
        capacity: against drafts made by the server, where the edges draft.
    """

    title: str
    drafts: str
    profile: Profile
    edge_device: dict | None
    objective_ms: float
    capacity: Capacity | None
    rows: list[LoadRow]


def measure_load(
    load: Load, method: str, profile: str, overrides: Sequence[str] = (), plugins: Sequence[Path] = ()
) -> LoadResult:
    """Serve the same requests by a method, by the server alone, and by drafts that the server makes.

    Args:
        profile: its name or file; a cloud in this process gets a process of its own.

    Raises:
        SpecbenchError: the load, the profile or the method does not fit, or an edge lost the cloud.
    """
    load.demand_valid()
    loaded = load_profile(profile, overrides)
    given: dict[str, object] = {}
    if loaded.cloud.placement == "in_process":
        given["cloud.placement"] = "process"
    if loaded.edge.threads is None and load.trace is None:
        given["edge.threads"] = 1  # edges in threads of one process; more would fight over its cores
    loaded = load_profile(profile, overrides, given)
    edge_device = confine(loaded.edge)  # before the imports below, which import torch

    from specbench.serving_load.departures import departures
    from specbench.serving_load.edges import COLOCATED, lone_tpot_ms, measure, schedule
    from specbench.serving_load.figures import capacity, load_row
    from specbench.serving_load.recorded import edges_of

    registry = discover(plugins)
    registry.demand_settings(loaded)
    methods = [registry.get(name) for name in dict.fromkeys((method, CONTROL, COLOCATED))]
    if "cloud" not in methods[0].roles:
        raise SpecbenchError(
            f"{method} does not use the server, so there is no load to measure", f"specbench run {method}"
        )
    prepared = prepare(loaded, methods)
    demand_texts(prepared.prompts, "specbench load")
    prepared.cloud.most_edges = load.edges + OWN_CONNECTIONS
    with closing(prepared.cloud):
        prompts, models, drafts = edges_of(prepared, load.trace)
        drafts_at_edge = method != COLOCATED and "edge" in methods[0].roles
        drafts = drafts if drafts_at_edge else "no draft model"
        requests = load.requests or max(2 * load.edges, FEWEST_REQUESTS)
        asked = schedule(prepared, load.edges, requests, load.rate, prompts)
        prepared.cloud.load()
        objective_ms = load.objective_ms
        if objective_ms is None:  # before the load, which a refusal would cost
            lone_ms = lone_tpot_ms(prepared, asked, models, registry.get(CONTROL))
            logger.info(f"a single edge without drafting takes {lone_ms:.1f} ms per token")
            objective_ms = LONE_TIMES * lone_ms
        title = _title(load, prepared, drafts)
        answers = measure(prepared, load.edges, asked, models)
        departed = departures(prepared, asked, answers)
    rows = {
        each.name: load_row(each.name, answers[each.name], objective_ms, departed[each.name])
        for each in methods
    }
    found = capacity(rows[method], rows[COLOCATED], answers[COLOCATED]) if drafts_at_edge else None
    return LoadResult(title, drafts, loaded, edge_device, objective_ms, found, list(rows.values()))


def _title(load: Load, prepared: Prepared, drafts: str) -> str:
    cloud = prepared.profile.cloud
    server = cloud.placement if cloud.is_elsewhere else f"{prepared.cloud.engine_kind} engine"
    arriving = "asking again at once" if load.rate is None else f"Poisson arrivals, {load.rate:g} a second"
    told = synthetic_in_words(prepared.profile.speculative.synthetic_acceptance) or ""
    return (
        f"{load.edges} edges, {arriving}; server: {server}, at most {cloud.batch.sessions} sequences per pass; "
        f"{drafts}{told and f'; {told}: texts mean nothing'}"
    )
