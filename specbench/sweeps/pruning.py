"""What a replay says of candidates before they are measured, where a trace makes that honest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from specbench.benchmark.tuning import demand_apart
from specbench.benchmark.workload import load_prompts, read_prompts
from specbench.errors import SpecbenchError
from specbench.forecast.acceptance_trace import Trace, read_trace
from specbench.forecast.grid import grid
from specbench.forecast.replay import Length
from specbench.forecast.traced_drafter import texts_of
from specbench.forecast.variants import RULE, demand_known
from specbench.forecast.varied import OWN, WINDOW
from specbench.method import Method
from specbench.profile import Profile
from specbench.profile.cost_table import read_costs
from specbench.results.records import CONTROL

LENGTH, IN_FLIGHT = "speculative.draft_length", "speculative.window"
MARGIN = 1.15
"""Whatever is predicted to take longer than the best by this factor is left out: replays were within 10 %."""
SAME = ("edge.model", "edge.dtype", "edge.quantization", "cloud.model", "cloud.dtype", "decoding")


def predicted(
    trace: Path, costs: Path, profile: Profile, method: Method, settings: Sequence[Mapping[str, object]]
) -> list[float]:
    """The speed-up of each candidate over the cloud alone, by a replay with the link of the profile.

    Raises:
        SpecbenchError: a file cannot be read, the trace is of other models or another rule or not exact, a run
            asks a prompt of it, or something is varied of which it says nothing.
    """
    read, table = read_trace(trace), read_costs(costs)
    _demand_honest(
        read,
        profile,
        [key for key in settings[0] if key not in (LENGTH, IN_FLIGHT) and not key.startswith(OWN)],
    )
    _demand_others(trace, read, profile)
    demand_known([method], {RULE: [read.verification]})
    link = profile.link
    if link.is_set and not link.trace:
        rates = {"link.uplink_mbps": link.uplink_mbps, "link.downlink_mbps": link.downlink_mbps}
        table = table.with_values({"link.rtt_ms": link.rtt_ms, **rates})
    texts, found = texts_of(read), []
    for each in settings:
        length = cast("Length", each.get(LENGTH, profile.speculative.draft_length))
        window = each.get(IN_FLIGHT, profile.speculative.window)
        own = {key: [value] for key, value in each.items() if key.startswith(OWN)}
        rows = grid(texts, table, [method], [length], {WINDOW: [window], **own})
        found.append(next(row.speedup for row in rows if row.method != CONTROL))
    return found


def _demand_others(path: Path, trace: Trace, profile: Profile) -> None:
    """Refuse a trace of prompts that are reported; their texts are in the file that it was made with."""
    ids = {text.prompt_id for text in trace.texts}
    there = read_prompts(trace.profile["workload"]["prompts"])
    traced = [prompt for prompt in there if prompt.prompt_id in ids]
    demand_apart(traced, load_prompts(profile.workload), str(path))


def _demand_honest(trace: Trace, profile: Profile, others: Sequence[str]) -> None:
    if others:
        raise SpecbenchError(
            f"a trace says nothing of {others[0]}, so it cannot prune its values",
            "leave out --trace and --costs, or do not vary it",
        )
    if not trace.exact:
        raise SpecbenchError(
            f"a trace by the rule {trace.verification} is approximate, so it cannot prune candidates",
            "leave out --trace and --costs",
        )
    here = profile.model_dump(mode="json")
    for key in (*SAME, "speculative.verification"):
        theirs, ours = (_at(values, key) for values in (trace.profile, here))
        if theirs != ours:
            raise SpecbenchError(
                f"the trace was made with {key} {theirs}, and the profile says {ours}",
                "make one with 'specbench trace --out FILE' and this profile",
            )


def _at(values: Mapping, key: str) -> object:
    part, _, name = key.partition(".")
    return values.get(part, {}).get(name) if name else values.get(part)
