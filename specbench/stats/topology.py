"""Where edge and cloud were, and what lay between them: no figure goes without it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from specbench.profile import LinkSpec
from specbench.results.records import Run


def place(runs: Sequence[Run]) -> str:
    """Co-located without a link; with one, the round trip: as it was set, or else as it was measured."""
    profile = runs[0].manifest.profile
    placement, link = profile["cloud"].get("placement", "in_process"), LinkSpec(**profile.get("link", {}))
    is_remote = "://" in placement
    if link.is_empty and not is_remote:
        where = "on one machine" if placement == "in_process" else "in two processes of one machine"
        return f"co-located: edge and cloud {where}, no link"
    kind = "real" if is_remote and not link.is_set else link.kind
    parts = [f"edge-cloud over a link that is {kind}", *_round_trip(runs, link), *_details(link)]
    return ", ".join(parts) + (f" · cloud at {placement}" if is_remote else "")


def _round_trip(runs: Sequence[Run], link: LinkSpec) -> list[str]:
    if link.is_set and not link.trace:
        return [f"round trip {link.rtt_ms:g} ms"]
    seen_ms = round_trip_ms(runs)
    return [] if seen_ms is None else [f"round trip {seen_ms:.3g} ms measured"]


def round_trip_ms(runs: Sequence[Run]) -> float | None:
    """Median over rounds of the way there and the way back, without the target's computing."""
    trips = [
        part.link_ms
        for run in runs
        for record in run.generations
        for part in record.rounds
        if part.link_ms is not None
    ]
    return statistics.median(trips) if trips else None


def _details(link: LinkSpec) -> list[str]:
    found = []
    if link.trace:
        found.append(f"trace {link.trace}")
    if link.jitter_ms:
        found.append(f"±{link.jitter_ms:g} ms each way")
    if link.uplink_mbps:
        found.append(f"{link.uplink_mbps:g} Mbit/s up")
    if link.downlink_mbps:
        found.append(f"{link.downlink_mbps:g} Mbit/s down")
    if link.loss:
        found.append(f"{100 * link.loss:g} % of packets lost")
    return found
