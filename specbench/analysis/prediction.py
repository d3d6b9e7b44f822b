"""Predicted beside measured: what a run's own costs and acceptance say a token takes; what explains a gap."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence

from specbench.analysis.acceptance import acceptance, drafting_rounds
from specbench.analysis.clock import Prices
from specbench.analysis.planning import FORMS, LONGEST, Survival, forecast
from specbench.config.costs import Costs, DraftCosts, LinkCosts, TargetCosts
from specbench.records import Generation, Manifest, Round, Run
from specbench.results import Prediction

EXPLAINED = 0.1  # a larger gap is given its term


def predictions(runs: Sequence[Run]) -> tuple[Prediction, ...]:
    """Every method of a closed form that drafted at a fixed length, over the runs that have it."""
    found = []
    for run in runs:
        for method in run.manifest.methods:
            records = [each for each in run.generations if each.method == method and not each.interrupted]
            if method in FORMS and (prediction := _predicted(run.manifest, method, records)):
                found.append(prediction)
    return tuple(found)


def _predicted(manifest: Manifest, method: str, records: Sequence[Generation]) -> Prediction | None:
    """Costs are the run's medians, the round trip is the profile's, acceptance is the run's.

    Returns:
        `None` where a round says too little, or the length was chosen round by round.
    """
    length, accepted = manifest.profile["speculative"]["draft_length"], acceptance(records)
    rounds = [part for part in drafting_rounds(records) if part.draft_ms and part.verify_ms]
    following = sum(len(each.tokens) - len(each.rounds[0].tokens) for each in records)
    if not isinstance(length, int) or length > LONGEST or not accepted or not accepted.survival or not rounds:
        return None
    chances = tuple(share for share in accepted.conditional[: len(accepted.survival)] if share is not None)
    expected = forecast(Survival(chances), Prices(_costs(manifest, rounds)), method, length)
    measured_ms = sum(each.total_ms - each.ttft_ms for each in records) / following
    gap = measured_ms / expected.ms_per_token - 1
    late = _late(rounds, expected.terms, measured_ms * following / len(rounds))
    tokens = following / len(rounds)
    # Fewer tokens a round cost the time of a round for each that is missing.
    late["tokens a round"] = (expected.tokens_per_round - tokens) * expected.ms_per_token
    blamed = max(late, key=lambda term: late[term] * (1 if gap > 0 else -1))
    return Prediction(
        method=method,
        run_id=manifest.run_id,
        predicted_ms=expected.ms_per_token,
        measured_ms=measured_ms,
        gap=gap,
        explained_by=blamed if abs(gap) > EXPLAINED else None,
    )


def _costs(manifest: Manifest, rounds: Sequence[Round]) -> Costs:
    by_width: dict[int, list[float]] = defaultdict(list)
    for part in rounds:
        by_width[(part.drafted or 0) + 1].append(part.verify_ms or 0.0)
    steps = [
        (part.draft_ms or 0.0) / ((part.drafted or 0) + (part.wasted_draft_tokens or 0)) for part in rounds
    ]
    link = manifest.profile.get("link", {})
    return Costs(
        draft=DraftCosts(step_ms=statistics.median(steps)),
        target=TargetCosts(
            verify_ms={width: statistics.median(times) for width, times in sorted(by_width.items())}
        ),
        link=LinkCosts(
            rtt_ms=link.get("rtt_ms", 0.0),
            uplink_mbps=link.get("uplink_mbps"),
            downlink_mbps=link.get("downlink_mbps"),
        ),
    )


def _late(rounds: Sequence[Round], terms: dict[str, float], round_ms: float) -> dict[str, float]:
    """How much longer than expected each part of a round took, in the mean."""

    def mean(*names: str) -> float:
        return statistics.fmean(sum(getattr(part, name) or 0.0 for name in names) for part in rounds)

    measured = {
        "draft": mean("draft_ms"),
        "verification": mean("verify_ms"),
        "round trip": mean("uplink_ms", "downlink_ms"),
    }
    expected = {**terms, "round trip": terms["round trip"] + terms["bytes"]}
    late = {name: took - expected[name] for name, took in measured.items()}
    overlapping = any(part.wasted_draft_tokens is not None for part in rounds)
    if overlapping:
        del late["draft"]  # part of it was hidden behind the round trip
    else:
        late["the rest of a round"] = round_ms - sum(measured.values()) - expected["other"]
    return late
