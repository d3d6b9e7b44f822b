"""Time per token by closed forms beside the measured one; the part that explains a gap is named.

A round drafts γ tokens and commits τ = 1 + ΣSᵢ of them, Sᵢ being the chance that the first i all stand. With t
the target's step, c the draft's in t, and v a verification of γ + 1 tokens in t, drafting pays where ΣSᵢ > γc +
(v - 1) + RTT/t: what a round wins, against what it costs. Plans are made by virtual runs, and not by these.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil

from specbench.engine.rereading import left_again, passes
from specbench.results.derived import Prediction
from specbench.results.records import Generation, Manifest, Round, Run
from specbench.stats.acceptance import Survival, acceptance
from specbench.stats.measured_costs import costs_of, timed_rounds
from specbench.stats.prices import Prices


def verification_ms(survival: Survival, prices: Prices, draft_length: int) -> float:
    """A mean verification: of a target that restores its state, with what it reads again behind refusals."""
    count = draft_length + 1
    if not prices.costs.target.restores_state:
        return prices.verify_ms[count]
    chances = [before - after for before, after in pairwise([1.0, *survival.curve(draft_length), 0.0])]
    shares = {0: 1.0}
    """Of rounds, by the tokens that they read again."""
    for _ in range(STEADY):
        following: dict[int, float] = defaultdict(float)
        for again, share in shares.items():
            for accepted, chance in enumerate(chances):
                following[left_again(again, count, draft_length - accepted)] += share * chance
        shares = following
    return sum(share * sum(map(prices.pass_ms, passes(again, count))) for again, share in shares.items())


def synchronous(survival: Survival, prices: Prices, draft_length: int, rtt_ms: float) -> dict[str, float]:
    """The terms of a round of `speculative`."""
    whole, tokens = survival.curve(draft_length)[-1], survival.tokens(draft_length)
    return {
        "draft": draft_length * prices.step_ms + whole * prices.read_ms,
        "verification": verification_ms(survival, prices, draft_length),
        "round trip": rtt_ms + prices.overhead_ms,
        "bytes": prices.sending_ms(draft_length) + prices.answer_ms(tokens),
        "other": prices.round_ms,
    }


def colocated(survival: Survival, prices: Prices, draft_length: int, rtt_ms: float) -> dict[str, float]:
    """The terms of a round of `speculative_colocated`; the link only streams."""
    del rtt_ms
    terms = synchronous(survival, prices, draft_length, 0.0) | {"round trip": 0.0}
    terms["draft"] *= prices.colocated_step_ms / prices.step_ms
    busy = sum(terms.values()) - terms["bytes"]
    terms["bytes"] = max(0.0, prices.answer_ms(survival.tokens(draft_length)) - busy)
    return terms


def pipelined(survival: Survival, prices: Prices, draft_length: int, rtt_ms: float) -> dict[str, float]:
    """The terms of a round of `speculative_pipelined`, in the mean.

    What is drafted ahead stands if all γ tokens and the guess behind them are accepted. The edge begins another
    step while its expected gain is larger than its expected delay.
    """
    terms = synchronous(survival, prices, draft_length, rtt_ms)
    stands = survival.curve(draft_length + 1)[-1]
    waiting = sum(terms.values()) - terms["draft"] - terms["other"]
    ahead = max(0, min(draft_length + 1, ceil(waiting / prices.step_ms + stands) - 1))
    saved = stands * max(0, ahead - 1) * prices.step_ms
    late = max(0.0, ahead * prices.step_ms - waiting)
    if ahead:  # its first step read what the next draft would have had to read
        terms["draft"] = draft_length * prices.step_ms
    terms["draft"] += late - saved
    return terms


FORMS: dict[str, Callable[[Survival, Prices, int, float], dict[str, float]]] = {
    "speculative": synchronous,
    "speculative_pipelined": pipelined,
    "speculative_colocated": colocated,
}
"""By the name of the method."""

STEADY = 64  # rounds behind which those that are like the first ones do not count
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
        `None` where a round says too little, where several proposals were in flight, or the draft's confidence
            chose what was verified, which a note of the comparison says.
    """
    settings, accepted = manifest.profile["speculative"], acceptance(records)
    length = settings["draft_length"]
    rounds = timed_rounds(records)
    following = sum(len(each.tokens) - len(each.rounds[0].tokens) for each in records)
    if settings.get("gate") or settings.get("confidence_stop") or settings.get("window", 1) != 1:
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
    found = [
        (FORMS[method](survival, prices, length, prices.rtt_ms), count) for length, count in lengths.items()
    ]
    total = lengths.total()
    terms = {name: sum(each[name] * count for each, count in found) / total for name in found[0][0]}
    return sum(survival.tokens(length) * count for length, count in lengths.items()) / total, terms


def _late(rounds: Sequence[Round], terms: dict[str, float], round_ms: float) -> dict[str, float]:
    """How much longer than expected each part of a round took, on average."""

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
