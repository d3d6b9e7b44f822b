"""Predicted beside measured: what a run's own costs and acceptance say a token takes; what explains a gap."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from specbench.analysis.acceptance import acceptance
from specbench.analysis.clock import Prices
from specbench.analysis.measured import costs_of, timed_rounds
from specbench.analysis.planning import FORMS, Survival, forecast
from specbench.records import Generation, Manifest, Round, Run
from specbench.results import Prediction

EXPLAINED = 0.1  # a larger gap is given its term


def predictions(run: Run) -> tuple[Prediction, ...]:
    """Every method of a closed form."""
    found = []
    for method in run.manifest.methods:
        records = run.of(method)
        if method in FORMS and (prediction := _predicted(run.manifest, method, records)):
            found.append(prediction)
    return tuple(found)


def _predicted(manifest: Manifest, method: str, records: Sequence[Generation]) -> Prediction | None:
    """Costs are the run's medians; acceptance and bytes are the run's; so is the round trip where none was set.

    Returns:
        `None` where a round says too little, or a gate chose what was verified, which a note of the
            comparison says.
    """
    settings, accepted = manifest.profile["speculative"], acceptance(records)
    length = settings["draft_length"]
    rounds = timed_rounds(records)
    following = sum(len(each.tokens) - len(each.rounds[0].tokens) for each in records)
    if settings.get("gate"):
        return None
    # Which lengths `auto` chose is the run's own, and the form says what rounds of those lengths come to.
    chosen = Counter([length] if length != "auto" else [part.drafted for part in rounds if part.drafted])
    if not accepted or not accepted.survival or not rounds or not chosen:
        return None
    chances = tuple(share for share in accepted.conditional[: len(accepted.survival)] if share is not None)
    prices = Prices(costs_of(manifest, records, rounds))
    expected, terms = _mean_round(Survival(chances), prices, method, chosen)
    predicted_ms = sum(terms.values()) / expected
    measured_ms = sum(each.total_ms - each.ttft_ms for each in records) / following
    gap = measured_ms / predicted_ms - 1
    late = _late(rounds, terms, measured_ms * following / len(rounds))
    tokens = following / len(rounds)
    # Fewer tokens a round cost the time of a round for each that is missing.
    late["tokens a round"] = (expected - tokens) * predicted_ms
    blamed = max(late, key=lambda term: late[term] * (1 if gap > 0 else -1))
    return Prediction(
        method=method,
        run_id=manifest.run_id,
        predicted_ms=predicted_ms,
        measured_ms=measured_ms,
        gap=gap,
        explained_by=blamed if abs(gap) > EXPLAINED else None,
    )


def _mean_round(
    survival: Survival, prices: Prices, method: str, lengths: Counter[int]
) -> tuple[float, dict[str, float]]:
    """Tokens of a mean round and its milliseconds by part, with so many rounds of each length."""
    found = [(forecast(survival, prices, method, length), count) for length, count in lengths.items()]
    total = lengths.total()
    terms = {name: sum(each.terms[name] * count for each, count in found) / total for name in found[0][0].terms}
    return sum(each.tokens_per_round * count for each, count in found) / total, terms


def _late(rounds: Sequence[Round], terms: dict[str, float], round_ms: float) -> dict[str, float]:
    """How much longer than expected each part of a round took, in the mean."""

    def mean(*names: str) -> float:
        return statistics.fmean(sum(getattr(part, name) or 0.0 for name in names) for part in rounds)

    measured = {
        "draft": mean("draft_ms"),
        "verification": mean("verify_ms"),
        "round trip": mean("link_ms"),
    }
    expected = {**terms, "round trip": terms["round trip"] + terms["bytes"]}
    late = {name: took - expected[name] for name, took in measured.items()}
    overlapping = any(part.wasted_draft_tokens is not None for part in rounds)
    if overlapping:
        del late["draft"]  # part of it was hidden behind the round trip
    else:
        late["the rest of a round"] = round_ms - sum(measured.values()) - expected["other"]
    return late
