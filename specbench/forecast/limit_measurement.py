"""How near the engines of a profile come to what memory allows, and what the parts of a round cost."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from specbench.api import Options
from specbench.benchmark.ceiling import decoding_ms
from specbench.benchmark.preparation import configure_torch
from specbench.cloud import CloudModel, EdgeModel, cloud_of
from specbench.cloud.link import emulated
from specbench.forecast.cost_measurement import measure_costs, placed
from specbench.models import vocabulary
from specbench.models.confinement import confine
from specbench.profile import LinkSpec, Profile
from specbench.profile.cost_table import write_costs
from specbench.results.environment import machine
from specbench.stats.ceiling_shares import told_fault

logger = logging.getLogger(__name__)


def measured_limits(profile: Profile, costs: Path | None = None) -> dict[str, dict]:
    """The read bandwidth, the ceiling that follows from it, and what a short greedy decode reaches; by role.

    Args:
        costs: a file to write the measured cost table to.

    Raises:
        SpecbenchError: a model cannot be loaded, or the file cannot be written.
    """
    confine(profile.edge)  # before anything can import torch
    configure_torch(profile)
    edge, here = EdgeModel(profile.edge, profile.engine), profile
    if profile.link.kind == "modelled":  # its time is known, and would only be waited for
        here = profile.model_copy(update={"link": LinkSpec()})
    elif profile.link.kind == "emulated":
        emulated.demand(profile.link)
    cloud = cloud_of(here)
    if profile.cloud.backend == "openai":
        cloud.demand_here()
    with closing(cloud):
        size = vocabulary.size(cloud.tokenizer)
        if profile.speculative.cross_vocabulary:
            edge.demand_same_tokens(cloud, profile.speculative.cross_vocabulary)
            edge.demand_target_ids()
        rows = {factory.role: _row(factory, size) for factory in (edge, cloud)}
        if costs:
            _write_costs(costs, edge, cloud, profile)
    return rows


def _row(factory: EdgeModel | CloudModel, vocabulary_size: int) -> dict:
    before, ms, after = factory.ceiling(), decoding_ms(factory, vocabulary_size), factory.ceiling()
    if before is None or after is None:  # a server of another engine, which is refused before
        raise AssertionError(f"the {factory.role} has no ceiling")
    speeds = sorted((before.bytes_per_second, after.bytes_per_second))
    ceiling = replace(after, bytes_per_second=sum(speeds) / 2)
    share = ceiling.share(ms)
    return {
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


def _write_costs(path: Path, edge: EdgeModel, cloud: CloudModel, profile: Profile) -> None:
    logger.info("measuring drafts, verifications and prompts")
    plain = profile.speculative.model_copy(update={"gate": None, "confidence_stop": None})
    options = Options(profile.decoding, plain)
    engines = " and ".join(dict.fromkeys((edge.engine_kind, cloud.engine_kind)))
    description = f"{edge.spec.model} drafts for {cloud.spec.model}, {engines}, {machine()['cpu']}"
    write_costs(path, placed(measure_costs(edge, cloud, options, description), profile))
    logger.info(f"wrote {path}")
